// The control API's handlers on a real store: what they write, what they refuse, and what they do when the store moves
// between reading and writing.

import t from 'tap'
import { httpStatus } from '../../src/api/error-status.ts'
import type { Service, Task } from '../../src/api/objects.ts'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { CodedError } from '../../src/lib/errors.ts'
import { leaveRefusal, updateCluster } from '../../src/manager/control/cluster.ts'
import type { ControlContext } from '../../src/manager/control/context.ts'
import { type ClusterEvent, clusterEvent, encodeEvent, matchesEvent } from '../../src/manager/control/events.ts'
import { parseFilters } from '../../src/manager/control/filters.ts'
import { find } from '../../src/manager/control/lookup.ts'
import { createNetwork, listNetworks, removeNetwork } from '../../src/manager/control/networks.ts'
import { listNodes, removeNode, updateNode } from '../../src/manager/control/nodes.ts'
import { encodeService, encodeTask, type ManagerSight } from '../../src/manager/control/render.ts'
import { createConfig, createSecret, removeUnused, updateLabels } from '../../src/manager/control/secrets-configs.ts'
import {
  createService,
  listServices,
  removeService,
  serviceStatus,
  updateService,
} from '../../src/manager/control/services.ts'
import { listTasks } from '../../src/manager/control/tasks.ts'
import { ApiCluster, NODE_ID } from '../support/api-cluster.ts'
import { noExternalCa } from '../support/no-external-ca.ts'
import { aNode, aTask, statusOf } from '../support/objects.ts'

async function newCluster(): Promise<{ readonly cluster: ApiCluster; readonly control: ControlContext }> {
  const cluster = await ApiCluster.inSwarm()
  const { current } = cluster
  if (current.kind !== 'manager') throw new Error('no manager')
  return {
    cluster,
    control: {
      view: cluster.store,
      proposer: current.proposer,
      clock: new SystemClock(),
      random: cluster.random,
      get objectId() {
        return cluster.random.id()
      },
    },
  }
}

async function refusalOf(promise: Promise<unknown>): Promise<{ readonly status: number; readonly message: string }> {
  try {
    await promise
  } catch (error) {
    if (error instanceof CodedError) return { status: httpStatus(error), message: error.message }
    throw error
  }
  return { status: 0, message: 'accepted' }
}

const aSpec = (Name: string, over: Partial<ServiceSpec> = {}): ServiceSpec => ({
  Name,
  TaskTemplate: { ContainerSpec: { Image: 'nginx' } },
  ...over,
})

const change = (service: string, version: number, spec: ServiceSpec, over: object = {}) => ({
  service,
  version,
  spec,
  registryAuth: '',
  registryAuthFrom: '',
  rollback: '',
  ...over,
})

function serviceOf(cluster: ApiCluster, name: string): Service {
  return find(cluster.store, 'service', name)
}

t.test('a service is created with its defaults, once per name', async (t) => {
  const { cluster, control } = await newCluster()
  const { id } = await createService(control, aSpec('web'), 'auth1')
  const service = cluster.store.get('service', id)
  t.match(service, { specVersion: cluster.store.index, registryAuth: 'auth1', jobStatus: undefined })
  t.match(service?.spec, { Mode: { Replicated: { Replicas: 1 } }, TaskTemplate: { Runtime: 'container' } })
  t.same(await refusalOf(createService(control, aSpec('web'), '')), {
    status: 409,
    message:
      'rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists',
  })
  const { Name: _none, ...nameless } = aSpec('')
  const named = await createService(control, nameless, '')
  t.match(cluster.store.get('service', named.id)?.spec.Name, /^[a-z]+_[a-z]+$/)
})

t.test('a service whose spec leaves no room for its updates is refused', async (t) => {
  const { cluster, control } = await newCluster()
  const Env = (bytes: number) => ({ TaskTemplate: { ContainerSpec: { Image: 'nginx', Env: ['x'.repeat(bytes)] } } })
  t.match(await refusalOf(createService(control, aSpec('web', Env(500_000)), '')), {
    status: 400,
    message: /service spec is too large: 500\d\d\d bytes, 491520 at most$/,
  })
  await createService(control, aSpec('web', Env(490_000)), '')
  const { meta } = serviceOf(cluster, 'web')
  await updateService(control, change('web', meta.version, aSpec('web', Env(490_001))))
  t.ok(serviceOf(cluster, 'web').previousSpec)
})

t.test('a service refers to secrets, configs and networks that are there', async (t) => {
  const { cluster, control } = await newCluster()
  const secret = await createSecret(control, { Name: 's', Data: 'aGk=' })
  const network = await createNetwork(control, { Name: 'net' })
  const withSecret = (SecretID: string, SecretName: string) =>
    aSpec('web', {
      TaskTemplate: {
        ContainerSpec: { Image: 'nginx', Secrets: [{ SecretID, SecretName, File: { Name: 'f' } }] },
        Networks: [{ Target: 'net' }],
      },
    })
  t.same(await refusalOf(createService(control, withSecret('nope', 's'), '')), {
    status: 400,
    message: 'rpc error: code = InvalidArgument desc = secret not found: s',
  })
  t.match(await refusalOf(createService(control, withSecret(secret, 'other'), '')), {
    message: /secret not found: other/,
  })
  const missing = aSpec('web', { TaskTemplate: { ContainerSpec: { Image: 'a' }, Networks: [{ Target: 'nope' }] } })
  t.same(await refusalOf(createService(control, missing, '')), { status: 404, message: 'network nope not found' })
  const { id } = await createService(control, withSecret(secret, 's'), '')
  t.same(
    cluster.store.get('service', id)?.spec.TaskTemplate?.Networks,
    [{ Target: network }],
    'named by id from now on',
  )

  t.same(await refusalOf(removeUnused(control, 'secret', 's')), {
    status: 400,
    message: "rpc error: code = InvalidArgument desc = secret 's' is in use by the following service: web",
  })
  t.match(await refusalOf(removeNetwork(control, network)), {
    status: 400,
    message: `network ${network} is in use by service ${id}`,
  })
  await removeService(control, 'web')
  await removeUnused(control, 'secret', 's')
  await removeNetwork(control, network)
  t.equal(cluster.store.count('secret') + cluster.store.count('network'), 0)
})

t.test('a secret that goes while a service is created is noticed by the transaction', async (t) => {
  const { cluster, control } = await newCluster()
  const id = await createSecret(control, { Name: 's', Data: 'aGk=' })
  cluster.beforeApply = () => {
    cluster.beforeApply = () => {}
    cluster.apply([{ kind: 'remove', objectKind: 'secret', id }])
  }
  const spec = aSpec('web', {
    TaskTemplate: { ContainerSpec: { Image: 'a', Secrets: [{ SecretID: id, SecretName: 's', File: { Name: 'f' } }] } },
  })
  t.match(await refusalOf(createService(control, spec, '')), { message: /secret not found: s/ })
  t.equal(cluster.store.count('service'), 0)
})

t.test('a name that another client takes just before is refused as a name conflict', async (t) => {
  const { cluster, control } = await newCluster()
  cluster.beforeApply = () => {
    cluster.beforeApply = () => {}
    const other = {
      ...control,
      proposer: {
        propose: async (changes: Parameters<ControlContext['proposer']['propose']>[0]) => cluster.apply(changes),
      },
    }
    void createService(other, aSpec('web'), '')
  }
  t.match(await refusalOf(createService(control, aSpec('web'), '')), {
    status: 409,
    message: /service web already exists/,
  })
})

t.test('ports are given once', async (t) => {
  const { control, cluster } = await newCluster()
  cluster.addIngress()
  const ports = (PublishedPort: number, PublishMode: 'ingress' | 'host') => ({
    EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort, PublishMode, Protocol: 'tcp' as const }] },
  })
  const { id: a } = await createService(control, aSpec('a', ports(8080, 'ingress')), '')
  const { id: b } = await createService(control, aSpec('b', ports(9090, 'host')), '')
  const refused = async (name: string, port: number, mode: 'ingress' | 'host') =>
    (await refusalOf(createService(control, aSpec(name, ports(port, mode)), ''))).message
  const prefix = 'rpc error: code = InvalidArgument desc = '
  t.equal(
    await refused('c', 8080, 'ingress'),
    `${prefix}port '8080' is already in use by service 'a' (${a}) as an ingress port`,
  )
  t.equal(
    await refused('c', 8080, 'host'),
    `${prefix}port '8080' is already in use by service 'a' (${a}) as an ingress port`,
  )
  t.equal(
    await refused('c', 9090, 'ingress'),
    `${prefix}port '9090' is already in use by service 'b' (${b}) as a host-published port`,
  )
  t.equal(await refused('c', 9090, 'host'), 'accepted', 'the scheduler keeps host ports apart')
})

t.test('labels that name addresses are looked at where they are given', async (t) => {
  const { cluster, control } = await newCluster()
  await createNetwork(control, { Name: 'ingress', Ingress: true })
  await createNetwork(control, { Name: 'front', IPAMOptions: { Configs: [{ Subnet: '10.9.0.0/24' }] } })
  const Ports = [{ Protocol: 'tcp' as const, TargetPort: 80, PublishedPort: 8080 }]
  const spec = (name: string, Labels: Record<string, string>, over: Partial<ServiceSpec> = {}): ServiceSpec =>
    aSpec(name, {
      Labels,
      EndpointSpec: { Ports },
      TaskTemplate: { ContainerSpec: { Image: 'nginx' }, Networks: [{ Target: 'front' }] },
      ...over,
    })
  const publish = { 'io.swarmctl.publish.8080/tcp': '127.0.0.1' }
  const own = (address: string) => ({ 'io.swarmctl.network.front.ip': address })
  const text = async (wanted: ServiceSpec) =>
    (await refusalOf(createService(control, wanted, ''))).message.replace(/^.*desc = /, '')
  for (const [labels, why] of [
    [{ 'io.swarmctl.publish.8080': '127.0.0.1' }, /must end with a published port and its protocol/],
    [
      { 'io.swarmctl.publish.8080/tcp': 'localhost' },
      /invalid value "localhost": must be addresses, subnets or interfaces/,
    ],
    [{ 'io.swarmctl.publish.8080/tcp': '0.0.0.0' }, /"0\.0\.0\.0" is every address: leave the label away/],
    [{ 'io.swarmctl.publish.8080/tcp': '::1' }, /::1 alone can’t be/],
    [{ 'io.swarmctl.publish.8080/udp': '127.0.0.1' }, /the service publishes no such port: 8080\/tcp are published$/],
    [own('10.9.0'), /invalid value "10\.9\.0": must be an IPv4 address/],
    [own('10.9.0.1,10.9.0.2'), /or one of each with a comma between them/],
    [own('10.9.1.1'), /address 10\.9\.1\.1 is not in network front, which is 10\.9\.0\.0\/24$/],
    [own('10.9.0.1'), /is the gateway of network front$/],
    [{ 'io.swarmctl.network.back.ip': '10.9.0.7' }, /the service is not on such a network$/],
  ] as const) {
    t.match(await text(spec('bad', labels)), why)
  }
  t.match(
    await text(spec('bad', own('10.9.0.7'), { EndpointSpec: { Mode: 'dnsrr' } })),
    /with endpoint mode dnsrr there is none$/,
  )
  const { warnings } = await createService(
    control,
    spec('web', { 'io.swarmctl.publish.8080/tcp': '127.0.0.1,::1', ...own('10.9.0.7') }),
    '',
  )
  t.match(warnings, [/^published port 8080\/tcp is refused at ::1/])
  t.match(await text(spec('two', own('10.9.0.7'), { EndpointSpec: {} })), /is asked for by service web$/)

  const update = async (wanted: ServiceSpec) => {
    const service = serviceOf(cluster, 'web')
    return refusalOf(updateService(control, change('web', service.meta.version, wanted)))
  }
  t.match(await update(spec('web', publish)), { message: 'accepted' })
  t.match(
    await update(spec('web', publish, { EndpointSpec: {} })),
    { message: 'accepted' },
    'left behind, as by docker’s --publish-rm',
  )
  t.match(await update(spec('web', { 'io.swarmctl.publish.8081/tcp': '127.0.0.1' })), { message: /no such port/ })
  t.same(serviceOf(cluster, 'web').spec.Labels, publish)

  const swarm = cluster.store.cluster()!
  await control.proposer.propose([
    { kind: 'update', object: { ...swarm, featureLevel: 3 }, expectedVersion: swarm.meta.version },
  ])
  t.match(
    await text(spec('old', publish)),
    /needs feature level 4 and the cluster is at 3: upgrade swarmd on every manager first/,
  )
})

t.test('an update needs a version from the last change of the spec on', async (t) => {
  const { cluster, control } = await newCluster()
  await createService(control, aSpec('web'), 'auth1')
  const created = serviceOf(cluster, 'web')
  // a manager writes the status meanwhile: no change of the spec
  cluster.apply([
    {
      kind: 'update',
      object: { ...created, updateStatus: { State: 'completed' } },
      expectedVersion: created.meta.version,
    },
  ])
  await updateService(control, change('web', created.meta.version, aSpec('web', { Labels: { a: 'b' } })))
  const updated = serviceOf(cluster, 'web')
  t.match(updated, {
    spec: { Labels: { a: 'b' } },
    updateStatus: undefined,
    registryAuth: 'auth1',
    previousRegistryAuth: 'auth1',
  })
  t.equal(updated.specVersion, updated.meta.version)
  t.same(updated.previousSpec, created.spec)
  t.equal(updated.previousSpecVersion, created.specVersion)
  const stale = { status: 500, message: 'rpc error: code = Unknown desc = update out of sequence' }
  t.same(await refusalOf(updateService(control, change('web', created.meta.version, aSpec('web')))), stale)
  t.same(await refusalOf(updateService(control, change('web', updated.meta.version + 1, aSpec('web')))), stale)
  t.equal(serviceOf(cluster, 'web'), updated, 'nothing changed')
})

t.test('a status that a manager writes just before an update does not lose the update', async (t) => {
  const { cluster, control } = await newCluster()
  await createService(control, aSpec('web'), '')
  const created = serviceOf(cluster, 'web')
  cluster.beforeApply = () => {
    cluster.beforeApply = () => {}
    cluster.apply([
      {
        kind: 'update',
        object: { ...created, updateStatus: { State: 'completed' } },
        expectedVersion: created.meta.version,
      },
    ])
  }
  await updateService(control, change('web', created.meta.version, aSpec('web', { Labels: { a: 'b' } })))
  t.same(serviceOf(cluster, 'web').spec.Labels, { a: 'b' })
  t.equal(cluster.proposed.length, 3, 'proposed again on the newer version')
})

t.test('name and mode of a service stay', async (t) => {
  const { cluster, control } = await newCluster()
  await createService(control, aSpec('web'), '')
  const { meta } = serviceOf(cluster, 'web')
  t.same(await refusalOf(updateService(control, change('web', meta.version, aSpec('other')))), {
    status: 501,
    message: 'rpc error: code = Unimplemented desc = renaming services is not supported',
  })
  t.same(await refusalOf(updateService(control, change('web', meta.version, aSpec('web', { Mode: { Global: {} } })))), {
    status: 501,
    message: 'rpc error: code = Unimplemented desc = service mode change is not allowed',
  })
  t.match(await refusalOf(updateService(control, change('web', meta.version, aSpec('web'), { rollback: 'all' }))), {
    status: 400,
  })
  t.match(
    await refusalOf(updateService(control, change('web', meta.version, aSpec('web'), { registryAuthFrom: 'x' }))),
    { status: 400 },
  )
})

t.test('a rollback swaps the spec and its credentials with the previous ones', async (t) => {
  const { cluster, control } = await newCluster()
  await createService(control, aSpec('web', { Labels: { v: '1' } }), 'auth1')
  const first = serviceOf(cluster, 'web')
  t.same(
    await refusalOf(updateService(control, change('web', first.meta.version, aSpec('web'), { rollback: 'previous' }))),
    {
      status: 400,
      message: `rpc error: code = FailedPrecondition desc = service ${first.id} does not have a previous spec`,
    },
  )
  await updateService(
    control,
    change('web', first.meta.version, aSpec('web', { Labels: { v: '2' } }), { registryAuth: 'auth2' }),
  )
  const second = serviceOf(cluster, 'web')
  await updateService(control, change('web', second.meta.version, second.spec, { rollback: 'previous' }))
  const third = serviceOf(cluster, 'web')
  t.match(third, {
    spec: { Labels: { v: '1' } },
    previousSpec: { Labels: { v: '2' } },
    registryAuth: 'auth1',
    previousRegistryAuth: 'auth2',
    updateStatus: { State: 'rollback_started', Message: 'manually requested rollback' },
  })
  t.ok(third.specVersion > second.specVersion)
  await updateService(control, change('web', third.meta.version, third.spec, { registryAuthFrom: 'previous-spec' }))
  t.equal(serviceOf(cluster, 'web').registryAuth, 'auth2')
})

t.test('an update of a job is its next iteration', async (t) => {
  const { cluster, control } = await newCluster()
  await createService(control, aSpec('job', { Mode: { ReplicatedJob: { MaxConcurrent: 2 } } }), '')
  const created = serviceOf(cluster, 'job')
  t.match(created, {
    jobStatus: { iteration: 0 },
    spec: { Mode: { ReplicatedJob: { MaxConcurrent: 2, TotalCompletions: 2 } } },
  })
  await updateService(control, change('job', created.meta.version, created.spec))
  t.equal(serviceOf(cluster, 'job').jobStatus?.iteration, 1)
})

t.test('objects are found by id, by name, and by the beginning of one id', async (t) => {
  const { cluster } = await newCluster()
  const { store } = cluster
  for (const id of ['abc1', 'abd2'])
    cluster.apply([{ kind: 'create', object: aNode(id, { description: { Hostname: 'twin' } }) }])
  t.equal(find(store, 'node', 'abc1').id, 'abc1')
  t.equal(find(store, 'node', 'abd').id, 'abd2')
  t.equal(find(store, 'node', 'manager-1').id, NODE_ID)
  t.throws(() => find(store, 'node', 'ab'), { message: 'node ab is ambiguous (2 matches found)' })
  t.throws(() => find(store, 'node', 'twin'), { message: 'node twin is ambiguous (2 matches found)' })
  t.throws(() => find(store, 'service', 'x'), { code: 'NO_SUCH_OBJECT', message: 'service x not found' })
  t.throws(() => find(store, 'secret', ''), { message: 'secret  not found' })
})

t.test('only labels of secrets and configs can change', async (t) => {
  const { cluster, control } = await newCluster()
  const id = await createConfig(control, { Name: 'c', Data: 'aGk=' })
  const version = cluster.store.index
  const refused = {
    status: 400,
    message: 'rpc error: code = InvalidArgument desc = only updates to Labels are allowed',
  }
  t.same(await refusalOf(updateLabels(control, 'config', id, version, { Name: 'c', Data: 'aG8=' })), refused)
  t.same(await refusalOf(updateLabels(control, 'config', id, version, { Name: 'd' })), refused)
  t.match(await refusalOf(updateLabels(control, 'config', id, version + 1, { Name: 'c' })), {
    message: /update out of sequence/,
  })
  await updateLabels(control, 'config', 'c', version, { Name: 'c', Labels: { a: 'b' } })
  t.match(cluster.store.get('config', id)?.spec, { Labels: { a: 'b' }, Data: 'aGk=' })
  t.match(await refusalOf(createConfig(control, { Name: 'c', Data: 'aGk=' })), {
    status: 409,
    message: /config c already exists/,
  })
})

const alone: ManagerSight = { leaderId: NODE_ID, reachability: () => 'unreachable' }
const together: ManagerSight = { leaderId: NODE_ID, reachability: () => 'reachable' }

function addManager(cluster: ApiCluster, id: string): void {
  const manager = { raftId: id, address: `${id}:2377`, featureLevel: 1 }
  cluster.apply([
    {
      kind: 'create',
      object: aNode(id, { role: 'manager', spec: { Role: 'manager', Availability: 'active' }, manager }),
    },
  ])
}

t.test('managers are demoted and leave only while the others keep a quorum', async (t) => {
  const { cluster, control } = await newCluster()
  const versionOf = (id: string) => find(cluster.store, 'node', id).meta.version
  const demote = (sight: ManagerSight, id: string) =>
    refusalOf(updateNode(control, sight, id, versionOf(id), { Role: 'worker', Availability: 'active', Labels: {} }))
  t.match(await demote(alone, NODE_ID), { status: 400, message: /attempting to demote the last manager of the swarm/ })
  t.match(
    leaveRefusal(cluster.store, NODE_ID, alone).message,
    /Removing the last manager erases all current state of the swarm/,
  )
  addManager(cluster, 'm2')
  addManager(cluster, 'm3')
  t.match(await demote(alone, 'm2'), { status: 400, message: /this would result in a loss of quorum/ })
  t.match(leaveRefusal(cluster.store, NODE_ID, alone).message, /Removing this node leaves 0 managers out of 3/)
  t.match(
    leaveRefusal(cluster.store, NODE_ID, together).message,
    /^You are attempting.*participating as a manager\. The only way/,
  )
  t.match(await demote(together, 'm2'), { status: 0 })
  t.equal(find(cluster.store, 'node', 'm2').spec.Role, 'worker')
  t.match(await refusalOf(updateNode(control, together, 'm3', 1, { Role: 'manager', Availability: 'drain' })), {
    message: /update out of sequence/,
  })
})

t.test('a node is removed when it is down or by force, and its tasks are orphaned', async (t) => {
  const { cluster, control } = await newCluster()
  const tasks = Array.from(
    { length: 450 },
    (_, number): Task =>
      aTask(`t${number}`, 's', {
        nodeId: 'w1',
        slot: number + 1,
        status: statusOf(number === 0 ? 'complete' : 'running'),
      }),
  )
  cluster.apply([{ kind: 'create', object: aNode('w1') }])
  for (let at = 0; at < tasks.length; at += 100) {
    cluster.apply(tasks.slice(at, at + 100).map((object) => ({ kind: 'create', object })))
  }
  t.match(await refusalOf(removeNode(control, NODE_ID, true)), {
    status: 400,
    message: /is a cluster manager and is a member of the raft cluster\. It must be demoted/,
  })
  t.match(await refusalOf(removeNode(control, 'w1', false)), {
    status: 400,
    message: /node w1 is not down and can't be removed/,
  })
  await removeNode(control, 'w1', true)
  t.equal(cluster.store.get('node', 'w1'), undefined)
  t.same(
    new Set(cluster.store.list('task').map((task) => `${task.id === 't0'} ${task.status.state}`)),
    new Set(['true complete', 'false orphaned']),
  )
  t.ok(cluster.proposed.every((transaction) => transaction.length <= 200))
})

t.test('join tokens are rotated one by one', async (t) => {
  const { cluster, control } = await newCluster()
  const before = cluster.store.cluster()?.rootCa.joinTokens
  const version = cluster.store.cluster()?.meta.version ?? 0
  await updateCluster(
    control,
    version,
    { Name: 'default' },
    { workerToken: true, managerToken: false, unlockKey: false },
    (digest) => cluster.newJoinToken(digest),
    noExternalCa,
  )
  const after = cluster.store.cluster()?.rootCa.joinTokens
  t.equal(after?.manager, before?.manager)
  t.not(after?.worker, before?.worker)
  t.match(
    await refusalOf(
      updateCluster(
        control,
        version,
        {},
        { workerToken: false, managerToken: false, unlockKey: false },
        () => '',
        noExternalCa,
      ),
    ),
    { message: /update out of sequence/ },
  )
})

t.test('what is settled when the cluster is made can’t be changed later', async (t) => {
  const { cluster, control } = await newCluster()
  const version = cluster.store.cluster()?.meta.version ?? 0
  const spec = { Name: 'default', Labels: { 'io.swarmctl.ingress-subnet': '172.31.0.0/16' } }
  const nothing = { workerToken: false, managerToken: false, unlockKey: false }
  t.match(await refusalOf(updateCluster(control, version, spec, nothing, () => '', noExternalCa)), {
    message: /taken by swarm init only: remove the network with `swarmctl network rm ingress`, and make it anew/,
  })
  t.equal(cluster.store.cluster()?.meta.version, version)
})

t.test('listings filter as Docker does', async (t) => {
  const { cluster, control } = await newCluster()
  const { store } = cluster
  await createService(control, aSpec('web-1', { Labels: { tier: 'front' } }), '')
  await createService(control, aSpec('db', { Mode: { Global: {} }, Labels: { tier: 'back' } }), '')
  const services = (filters: object) =>
    listServices(store, parseFilters(JSON.stringify(filters))).map((service) => service.spec.Name)
  t.same(services({ name: { web: true } }), ['web-1'])
  t.same(services({ name: ['eb'] }), [], 'by the beginning of the name')
  t.same(services({ mode: ['global'] }), ['db'])
  t.same(services({ label: ['tier=front'] }), ['web-1'])
  t.same(services({ label: ['tier', 'tier=back'] }), ['db'])
  t.same(services({ id: [serviceOf(cluster, 'db').id.slice(0, 8)] }), ['db'])
  t.throws(() => parseFilters('{"nope":["x"]}', ['name']), { message: "invalid filter 'nope'" })
  t.throws(() => parseFilters('{'), { message: 'invalid filter' })

  const web = serviceOf(cluster, 'web-1')
  const common = { serviceName: 'web-1', serviceLabels: { tier: 'front' }, nodeId: NODE_ID }
  cluster.apply([
    {
      kind: 'create',
      object: aTask('t1', web.id, { ...common, slot: 1, specVersion: web.specVersion, status: statusOf('running') }),
    },
    {
      kind: 'create',
      object: aTask('t2', web.id, {
        ...common,
        slot: 2,
        specVersion: 0,
        desiredState: 'shutdown',
        status: statusOf('failed'),
      }),
    },
  ])
  const tasks = (filters: object) => listTasks(store, parseFilters(JSON.stringify(filters))).map((task) => task.id)
  t.same(tasks({ service: ['web-1'], 'desired-state': ['running'] }), ['t1'])
  t.same(tasks({ name: ['web-1.2'] }), ['t2'])
  t.same(tasks({ node: ['manager-1'], label: ['tier'] }), ['t1', 't2'])
  t.same(tasks({ service: ['web-1'], '_up-to-date': ['true'] }), ['t1'])
  t.throws(() => tasks({ service: ['nope'] }), { message: 'service nope not found' })
  t.throws(() => tasks({ 'desired-state': ['x'] }), { message: "Invalid desired-state filter: 'x'" })
  t.same(serviceStatus(store, web), { RunningTasks: 1, DesiredTasks: 1, CompletedTasks: 0 })

  t.same(listNodes(store, parseFilters('{"role":["worker"]}')), [])
  t.equal(listNodes(store, parseFilters('{"name":["manager"],"membership":["accepted"]}')).length, 1)
  t.throws(() => listNodes(store, parseFilters('{"role":["boss"]}')), { message: "Invalid role filter: 'boss'" })
  const [first] = store.list('node')
  const relabelled = { ...first!, spec: { ...first!.spec, Labels: { zone: 'a', ssd: '' } } }
  cluster.apply([{ kind: 'update', object: relabelled, expectedVersion: first!.meta.version }])
  const byLabel = (...labels: readonly string[]) =>
    listNodes(store, parseFilters(JSON.stringify({ 'node.label': labels }))).length
  t.same([byLabel('zone'), byLabel('zone=a', 'ssd'), byLabel('zone=b'), byLabel('zone=a', 'rack')], [1, 1, 0, 0])
  await createNetwork(control, { Name: 'frontend' })
  t.equal(
    listNetworks(store, parseFilters('{"name":["tend"],"scope":["swarm"],"dangling":["true"]}')).length,
    1,
    'networks by any part',
  )
})

t.test('an object is encoded once, and a task shows the later of its two versions', async (t) => {
  const { cluster, control } = await newCluster()
  await createService(control, aSpec('web'), 'secret-credentials')
  const service = serviceOf(cluster, 'web')
  t.equal(encodeService(service), encodeService(service))
  t.notMatch(encodeService(service), /secret-credentials/)
  cluster.apply([{ kind: 'create', object: aTask('t1', service.id) }])
  const index = cluster.apply([
    { kind: 'task-status', taskId: 't1', status: statusOf('running', { container: { ContainerID: 'c', PID: 7 } }) },
  ])
  t.match(JSON.parse(encodeTask(cluster.store, find(cluster.store, 'task', 't1'))), {
    Version: { Index: index },
    Slot: 1,
    Status: { State: 'running', ContainerStatus: { ContainerID: 'c', PID: 7, ExitCode: 0 }, PortStatus: {} },
  })
})

t.test('changes of the store are told as Docker tells them', async (t) => {
  const { cluster, control } = await newCluster()
  const told: ClusterEvent[] = []
  cluster.store.subscribe((events) => {
    for (const event of events) {
      const one = clusterEvent(event, 1_767_225_600_123)
      if (one !== undefined) told.push(one)
    }
  })
  await createService(control, aSpec('web'), '')
  const { meta, id } = serviceOf(cluster, 'web')
  const scaled = aSpec('web', {
    Mode: { Replicated: { Replicas: 3 } },
    TaskTemplate: { ContainerSpec: { Image: 'nginx:2' } },
  })
  await updateService(control, change('web', meta.version, scaled))
  cluster.apply([
    {
      kind: 'update',
      object: { ...serviceOf(cluster, 'web'), updateStatus: { State: 'updating' } },
      expectedVersion: cluster.store.index,
    },
  ])
  await removeService(control, 'web')
  const node = find(cluster.store, 'node', NODE_ID)
  cluster.apply([
    {
      kind: 'update',
      object: { ...node, spec: { ...node.spec, Availability: 'drain' }, status: { ...node.status, state: 'down' } },
      expectedVersion: node.meta.version,
    },
  ])
  t.match(told, [
    { type: 'service', action: 'create', id, attributes: { name: 'web' } },
    {
      action: 'update',
      attributes: {
        name: 'web',
        'replicas.old': '1',
        'replicas.new': '3',
        'image.old': 'nginx',
        'image.new': 'nginx:2',
      },
    },
    { action: 'update', attributes: { 'updatestate.new': 'updating' } },
    { action: 'remove', attributes: { name: 'web' }, wallMs: 1_767_225_600_123 },
    {
      type: 'node',
      action: 'update',
      attributes: {
        name: 'manager-1',
        'availability.old': 'active',
        'availability.new': 'drain',
        'state.old': 'ready',
        'state.new': 'down',
      },
    },
  ])
  const removed = told[3]
  if (removed === undefined) throw new Error('no removal')
  t.match(encodeEvent(removed), /"scope":"swarm","time":1767225600,"timeNano":1767225600123000000}\n$/)
  const matches = (filters: object) => matchesEvent(parseFilters(JSON.stringify(filters)), removed)
  t.ok(
    matches({ type: ['service'], event: ['remove', 'create'], service: ['we'], scope: ['swarm'], label: ['name=web'] }),
  )
  t.notOk(matches({ type: ['node'] }))
  t.notOk(matches({ container: ['x'] }))
  t.notOk(matches({ event: ['create'] }))
})
