// Bad input over the API: every field of the wrong type, and specs that contradict themselves. Each is refused with a
// message that names the place or the reason, and none changes anything in the store.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { ask } from '../support/api-client.ts'
import { serveApi } from '../support/served-api.ts'

const description = JSON.parse(readFileSync(join(process.cwd(), 'test/conformance/api-1.51.json'), 'utf8')) as {
  readonly objects: Readonly<Record<string, readonly string[]>>
}

const container = (fields: object, task: object = {}, rest: object = {}) => ({
  Name: 'bad',
  TaskTemplate: { ContainerSpec: { Image: 'nginx:1', ...fields }, ...task },
  ...rest,
})
const port = (...Ports: readonly object[]) => container({}, {}, { EndpointSpec: { Ports } })
const label = (name: string, value: string) => container({}, {}, { Labels: { [`io.swarmctl.${name}`]: value } })
const limits = (Limits: object, rest: object = {}) => container({}, { Resources: { Limits, ...rest } })

/** Bodies of POST /services/create, and what is said of them. */
const SERVICES: readonly (readonly [object, string | RegExp])[] = [
  [{}, 'mismatched Runtime and *Spec fields'],
  [{ Name: 'bad', TaskTemplate: { ContainerSpec: {} } }, /image reference must be provided/],
  [container({ Image: 'A:b:c' }), /"A:b:c" is not a valid repository\/tag/],
  [container({ Image: 'nginx@sha256:12' }), /is not a valid repository\/tag/],
  [{ ...container({}), Name: 'a.b' }, /name must be valid as a DNS name component/],
  [{ ...container({}), Name: '-a' }, /name must be valid as a DNS name component/],
  [{ ...container({}), Name: 'a'.repeat(64) }, /name must be 63 characters or fewer/],
  [container({}, { Runtime: 'plugin' }), /swarmd runs containers only/],
  [container({}, { Runtime: 'attachment' }), 'unsupported runtime'],
  [container({}, {}, { Mode: { Global: {}, ReplicatedJob: {} } }), 'must specify only one service mode'],
  [container({}, {}, { Mode: { Replicated: {}, GlobalJob: {} } }), 'must specify only one service mode'],
  [
    container({}, {}, { Mode: { ReplicatedJob: {} }, UpdateConfig: { Delay: 1 } }),
    /Jobs may not have an update config/,
  ],
  [container({}, {}, { Mode: { GlobalJob: {} }, UpdateConfig: {} }), /Jobs may not have an update config/],
  [container({}, {}, { Mode: { Replicated: { Replicas: -1 } } }), /Mode\.Replicated\.Replicas: -1 is out of range/],
  [container({}, {}, { Mode: { Replicated: { Replicas: 1.5 } } }), /1\.5 is no integer/],
  [container({}, {}, { Mode: { Replicated: { Replicas: 2 ** 60 } } }), /is no integer of at most 53 bits/],
  [container({}, {}, { Mode: { ReplicatedJob: { MaxConcurrent: -1 } } }), /MaxConcurrent: -1 is out of range/],
  [limits({ NanoCPUs: 1 }), /invalid cpu value 1e-09: Must be at least 0\.001/],
  [limits({ NanoCPUs: -1 }), /invalid cpu value/],
  [limits({ MemoryBytes: 4096 }), /invalid memory value 4096: Must be at least 4MiB/],
  [limits({ MemoryBytes: -1 }), /invalid memory value -1/],
  [container({}, { Resources: { Reservations: { MemoryBytes: 1 } } }), /invalid memory value 1/],
  [container({}, { Resources: { Reservations: { NanoCPUs: 5 } } }), /invalid cpu value/],
  [limits({}, { SwapBytes: 1 }), /memory swap provided, but no memory-limit was set/],
  [
    container({}, { Resources: { Reservations: { GenericResources: [{ DiscreteResourceSpec: { Value: 1 } }] } } }),
    /a generic resource needs a Kind/,
  ],
  [
    container(
      {},
      {
        Resources: { Reservations: { GenericResources: [{ DiscreteResourceSpec: { Kind: 'gpu', Value: -1 } }] } },
      },
    ),
    /generic resource "gpu" cannot be negative/,
  ],
  [container({}, { RestartPolicy: { Condition: 'always' } }), 'invalid RestartCondition: "always"'],
  [container({}, { RestartPolicy: { Condition: 'unless-stopped' } }), 'invalid RestartCondition: "unless-stopped"'],
  [container({}, { RestartPolicy: { Delay: -1 } }), /restart-delay cannot be negative/],
  [container({}, { RestartPolicy: { Window: -1 } }), /restart-window cannot be negative/],
  [container({}, { RestartPolicy: { Delay: '5s' } }), /RestartPolicy\.Delay: expected integer, found string/],
  [container({}, { RestartPolicy: { MaxAttempts: -1 } }), /MaxAttempts: -1 is out of range/],
  [container({}, { Placement: { Constraints: ['node.role'] } }), /constraint expected one operator from ==, !=/],
  [
    container({}, { Placement: { Constraints: ['node.role=manager'] } }),
    /constraint expected one operator from ==, !=/,
  ],
  [container({}, { Placement: { Constraints: ['node.role==a==b'] } }), /value 'a==b' is invalid/],
  [container({}, { Placement: { Constraints: ['a b==c'] } }), /key 'a b' is invalid/],
  [container({}, { Placement: { MaxReplicas: -1 } }), /MaxReplicas: -1 is out of range/],
  [container({}, {}, { UpdateConfig: { Parallelism: -1 } }), /UpdateConfig\.Parallelism: -1 is out of range/],
  [container({}, {}, { UpdateConfig: { Delay: -1 } }), /update-delay cannot be negative/],
  [container({}, {}, { UpdateConfig: { Monitor: -1 } }), /update-monitor cannot be negative/],
  [
    container({}, {}, { UpdateConfig: { MaxFailureRatio: 1.1 } }),
    /update-maxfailureratio cannot be less than 0 or bigger than 1/,
  ],
  [container({}, {}, { UpdateConfig: { MaxFailureRatio: -0.1 } }), /update-maxfailureratio/],
  [container({}, {}, { UpdateConfig: { FailureAction: 'stop' } }), 'unrecognized update failure action stop'],
  [container({}, {}, { UpdateConfig: { Order: 'any' } }), 'unrecognized update order any'],
  [container({}, {}, { RollbackConfig: { Delay: -1 } }), /rollback-delay cannot be negative/],
  [container({}, {}, { RollbackConfig: { Monitor: -1 } }), /rollback-monitor cannot be negative/],
  [container({}, {}, { RollbackConfig: { MaxFailureRatio: 3 } }), /rollback-maxfailureratio/],
  [container({}, {}, { RollbackConfig: { Order: 'start' } }), 'unrecognized update order start'],
  [container({ Mounts: [{ Type: 'nfs', Target: '/a' }] }), 'invalid MountType: "nfs"'],
  [container({ Mounts: [{ Target: '/a' }, { Type: 'tmpfs', Target: '/a' }] }), /duplicate mount point: \/a/],
  [container({ Mounts: [{ Target: '/a', BindOptions: { Propagation: 'both' } }] }), 'invalid MountPropagation: "both"'],
  [
    container({ Mounts: [{ Type: 'tmpfs', Target: '/a', TmpfsOptions: { SizeBytes: '1m' } }] }),
    /SizeBytes: expected integer/,
  ],
  [container({ Mounts: [{ Type: 'tmpfs', Target: '/a', TmpfsOptions: { Mode: -1 } }] }), /Mode: -1 is out of range/],
  [container({ Mounts: [{ Source: '{{.Nope}}', Target: '/a' }] }), /can't evaluate field Nope/],
  [container({ Mounts: [{ Source: '/a', Target: '/{{.Task.Nope}}' }] }), /can't evaluate field Nope/],
  [container({ Hostname: '{{.Service.Labels.none}}' }), /map has no entry for key "none"/],
  [container({ Hostname: '{{.Node.Hostname' }), /unclosed action/],
  [container({ Env: ['A={{.Service.Nope}}'] }), /can't evaluate field Nope/],
  [container({ Healthcheck: { Interval: 999_999 } }), /Interval in HealthConfig cannot be less than 1ms/],
  [container({ Healthcheck: { Timeout: 1 } }), /Timeout in HealthConfig cannot be less than 1ms/],
  [container({ Healthcheck: { StartPeriod: 1 } }), /StartPeriod in HealthConfig cannot be less than 1ms/],
  [container({ Healthcheck: { StartInterval: 1 } }), /StartInterval in HealthConfig cannot be less than 1ms/],
  [container({ Healthcheck: { Retries: -1 } }), /Retries in HealthConfig cannot be negative/],
  [container({ Secrets: [{ SecretName: 's' }] }), /malformed secret reference/],
  [container({ Secrets: [{ SecretID: 'x', SecretName: 's' }] }), /no target provided/],
  [container({ Secrets: [{ SecretID: 'x', SecretName: 's', File: {} }] }), /invalid target file name provided/],
  [container({ Secrets: [{ SecretID: 'x', SecretName: 's', File: { Name: 'f' } }] }), /secret not found: s/],
  [container({ Configs: [{ ConfigName: 'c' }] }), /either File or Runtime should be set/],
  [container({ Configs: [{ ConfigID: 'x', ConfigName: 'c', File: { Name: 'f' } }] }), /config not found: c/],
  [
    container({ Configs: [{ ConfigID: 'x', ConfigName: 'c', File: { Name: 'f' }, Runtime: {} }] }),
    /cannot specify both/,
  ],
  [container({ Privileges: { CredentialSpec: {} } }), /must either provide "file", "registry", or "config"/],
  [
    container({ Privileges: { CredentialSpec: { File: 'a', Registry: 'b', Config: 'c' } } }),
    /cannot specify both "config", "file", and "registry" credential specs/,
  ],
  [container({ Privileges: { CredentialSpec: { Config: 'a' } } }), /isn't in config references with RuntimeTarget/],
  [container({ Privileges: { Seccomp: { Mode: 'off' } } }), 'invalid seccomp mode: "off"'],
  [container({ Privileges: { AppArmor: { Mode: 'on' } } }), 'invalid AppArmor mode: "on"'],
  [port({ PublishedPort: 80 }), /TargetPort must be provided/],
  [port({ TargetPort: 70_000 }), /TargetPort 70000 is no port number/],
  [port({ TargetPort: 80, PublishedPort: 65_536 }), /PublishedPort 65536 is no port number/],
  [port({ TargetPort: 80, Protocol: 'icmp' }), 'invalid protocol: "icmp"'],
  [port({ TargetPort: 80, PublishMode: 'nat' }), 'invalid publish mode: "nat"'],
  [
    port({ TargetPort: 80, PublishedPort: 8080 }, { TargetPort: 81, PublishedPort: 8080 }),
    /duplicate published ports provided/,
  ],
  [
    container({}, {}, { EndpointSpec: { Mode: 'dnsrr', Ports: [{ TargetPort: 80, PublishedPort: 80 }] } }),
    /port published with ingress mode can't be used with dnsrr mode/,
  ],
  [container({}, {}, { EndpointSpec: { Mode: 'lvs' } }), 'invalid resolution mode: "lvs"'],
  [container({}, { Networks: [{ Target: 'absent' }] }), /network absent not found/],
  [label('drain', '5'), /label io\.swarmctl\.drain: invalid duration "5"/],
  [label('drain', '2h'), /"2h" is longer than 1h/],
  [label('affinity', 'node'), /must be client or none/],
  [label('prefer-local', '99999'), /must be true, false or published ports/],
  [label('restart.max-delay', 'soon'), /invalid duration "soon"/],
  [label('update.progress-deadline', '-1s'), /invalid duration/],
  [label('container.devises', '/dev/fuse'), /no such option of containers/],
  [label('container.shm-size', 'big'), /must be a size/],
  [label('publish.8080', '127.0.0.1'), /must end with a published port and its protocol/],
  [label('publish.8080/tcp', 'here'), /the service publishes no such port/],
  [label('publish.8080/tcp', '127.0.0.1/33'), /must be addresses, subnets or interfaces of nodes/],
  [label('publish.8080/tcp', '0.0.0.0'), /is every address/],
  [label('network.front.ip', '10.0.9'), /must be an IPv4 address, an IPv6 address/],
  [label('network.front.ip', '10.0.9.1'), /the service is not on such a network/],
  [label('pull-policy', 'sometimes'), /must be always, missing or never/],
  [label('container.privileged', 'yes'), /must be true or false/],
  [label('container.pid', 'container'), /must be host/],
  [label('container.mem-swappiness', '101'), /must be 0 to 100/],
]

const overlay = (fields: object) => ({ Name: 'badnet', Driver: 'overlay', ...fields })
const subnet = (...Config: readonly object[]) => overlay({ IPAM: { Config } })
const RANGE = { Subnet: '10.9.0.0/24' }
const swarm = (path: string) => `/swarm/update?version=VERSION${path}`
const node = { Role: 'worker', Availability: 'active' }

/** Requests of other kinds. */
const REQUESTS: readonly (readonly [string, string, unknown, string | RegExp])[] = [
  ['POST', '/networks/create', overlay({ Name: '' }), /name/],
  ['POST', '/networks/create', overlay({ Name: 'a b' }), /name must be valid as a DNS name component/],
  ['POST', '/networks/create', overlay({ Name: 'host' }), /host is a pre-defined network and cannot be created/],
  ['POST', '/networks/create', overlay({ Ingress: true, Attachable: true }), /ingress network cannot be attachable/],
  ['POST', '/networks/create', subnet({ Subnet: '10.9.0.0' }), /invalid subnet 10\.9\.0\.0/],
  ['POST', '/networks/create', subnet({ Subnet: '10.9.0.0/33' }), /invalid subnet/],
  ['POST', '/networks/create', subnet({ ...RANGE, Gateway: 'x' }), /invalid gateway x/],
  ['POST', '/networks/create', subnet({ ...RANGE, Gateway: '10.8.0.1' }), /does not contain gateway 10\.8\.0\.1/],
  ['POST', '/networks/create', subnet({ ...RANGE, IPRange: '10.9.0.1' }), /invalid range 10\.9\.0\.1/],
  ['POST', '/networks/create', subnet({ ...RANGE, IPRange: '10.8.0.0/25' }), /does not contain range/],
  ['POST', '/networks/create', subnet({ ...RANGE, AuxiliaryAddresses: { a: 'b' } }), /invalid aux-address b/],
  [
    'POST',
    '/networks/create',
    subnet({ ...RANGE, AuxiliaryAddresses: { a: '1.1.1.1' } }),
    /does not contain aux-address/,
  ],
  ['POST', '/networks/create', subnet(RANGE, { Subnet: '10.9.0.128/25' }), /overlapping subnet/],
  [
    'POST',
    '/networks/create',
    overlay({ Options: { encripted: '' } }),
    /unknown option "encripted" for an overlay network/,
  ],
  ['POST', '/networks/create', overlay({ Options: { 'com.docker.network.driver.mtu': 'x' } }), /failed to parse x/],
  [
    'POST',
    '/networks/create',
    overlay({ Options: { 'com.docker.network.driver.mtu': '10' } }),
    /invalid MTU value: 10/,
  ],
  [
    'POST',
    '/networks/create',
    overlay({ Options: { 'com.docker.network.driver.overlay.vxlanid_list': '0' } }),
    /invalid vxlan id value "0"/,
  ],
  ['POST', '/networks/create', overlay({ Attachable: 'yes' }), /Attachable: expected boolean, found string/],
  ['DELETE', '/networks/absent', undefined, /\/networks\/absent/],
  ['POST', '/secrets/create', {}, /name must be provided/],
  ['POST', '/secrets/create', { Name: 'a/b', Data: 'aGk=' }, /invalid name, only 64/],
  ['POST', '/secrets/create', { Name: 'bad' }, /secret data must be larger than 0 and less than 512000 bytes/],
  ['POST', '/secrets/create', { Name: 'bad', Data: 'a' }, /Data: illegal base64 data/],
  [
    'POST',
    '/secrets/create',
    { Name: 'bad', Data: Buffer.alloc(512_000).toString('base64') },
    /less than 512000 bytes/,
  ],
  [
    'POST',
    '/secrets/create',
    { Name: 'bad', Data: 'eA==', Driver: { Name: 'vault' } },
    /secret data must be empty: driver vault gives it/,
  ],
  ['POST', '/secrets/create', { Name: 'bad', Labels: ['a'] }, /Labels: expected object, found array/],
  ['POST', '/secrets/kept/update?version=0', { Name: 'kept' }, /update out of sequence/],
  [
    'POST',
    '/secrets/kept/update?version=VERSION',
    { Name: 'kept', Data: 'eA==' },
    /only updates to Labels are allowed/,
  ],
  ['POST', '/secrets/kept/update', { Name: 'kept' }, /invalid secret version/],
  ['DELETE', '/secrets/absent', undefined, /secret absent not found/],
  [
    'POST',
    '/configs/create',
    { Name: 'bad', Data: Buffer.alloc(1_024_000).toString('base64') },
    /less than 1024000 bytes/,
  ],
  ['POST', '/configs/create', { Name: 'bad', Data: '????' }, /Data: illegal base64 data/],
  ['POST', '/configs/create', { Name: '', Data: 'eA==' }, /name must be provided/],
  ['POST', '/configs/kept/update?version=x', { Name: 'kept' }, /invalid config version/],
  [
    'POST',
    '/configs/kept/update?version=VERSION',
    { Name: 'other', Data: 'aGk=' },
    /only updates to Labels are allowed/,
  ],
  ['DELETE', '/configs/absent', undefined, /config absent not found/],
  ['POST', '/services/kept/update?version=0', container({}), /renaming|out of sequence/],
  ['POST', '/services/kept/update', { ...container({}), Name: 'kept' }, /invalid service version ''/],
  ['POST', '/services/kept/update?version=VERSION', container({}), /renaming services is not supported/],
  [
    'POST',
    '/services/kept/update?version=VERSION',
    { ...container({}), Name: 'kept', Mode: { Global: {} } },
    /service mode change is not allowed/,
  ],
  [
    'POST',
    '/services/kept/update?version=VERSION&rollback=next',
    { ...container({}), Name: 'kept' },
    /unrecognized rollback option next/,
  ],
  [
    'POST',
    '/services/kept/update?version=VERSION&rollback=previous',
    { ...container({}), Name: 'kept' },
    /does not have a previous spec/,
  ],
  [
    'POST',
    '/services/kept/update?version=VERSION&registryAuthFrom=me',
    { ...container({}), Name: 'kept' },
    /invalid registryAuthFrom 'me'/,
  ],
  ['DELETE', '/services/absent', undefined, /service absent not found/],
  ['GET', '/services/absent', undefined, /service absent not found/],
  ['GET', '/services?filters=%7B', undefined, /invalid filter/],
  ['GET', `/services?filters=${encodeURIComponent('{"nam":["x"]}')}`, undefined, /invalid filter 'nam'/],
  ['GET', '/services/kept/logs', undefined, /must specify at least one of 'stdout' or 'stderr'/],
  ['GET', '/services/kept/logs?stdout=1&tail=few', undefined, /tail|few/],
  [
    'GET',
    `/tasks?filters=${encodeURIComponent('{"desired-state":["gone"]}')}`,
    undefined,
    /Invalid desired-state filter: 'gone'/,
  ],
  ['GET', `/nodes?filters=${encodeURIComponent('{"role":["king"]}')}`, undefined, /king/],
  ['GET', '/tasks/absent', undefined, /task absent not found/],
  ['POST', '/nodes/absent/update?version=1', node, /node absent not found/],
  ['POST', '/nodes/SELF/update?version=1', { ...node, Role: 'leader' }, /invalid Role: "leader"/],
  ['POST', '/nodes/SELF/update?version=1', { ...node, Availability: 'off' }, /invalid Availability: "off"/],
  ['POST', '/nodes/SELF/update?version=VERSION', { ...node, Role: 'worker' }, /attempting to demote the last manager/],
  ['DELETE', '/nodes/SELF', undefined, /is a cluster manager and is a member of the raft cluster/],
  ['POST', '/swarm/init', {}, /already part of a swarm/],
  ['POST', '/swarm/join', { RemoteAddrs: ['a'] }, /already part of a swarm/],
  ['POST', '/swarm/unlock', { UnlockKey: 'x' }, /swarm is not locked/],
  ['POST', '/swarm/leave', undefined, /Removing the last manager erases all current state/],
  ['POST', '/swarm/update?version=99999', { Name: 'default' }, /update out of sequence/],
  ['POST', swarm(''), { Name: 'mine' }, /swarm spec must be named "default"/],
  ['POST', swarm('&rotateWorkerToken=maybe'), { Name: 'default' }, /invalid value for rotateWorkerToken: maybe/],
  ['POST', swarm('&rotateManagerToken=maybe'), { Name: 'default' }, /invalid value for rotateManagerToken: maybe/],
  [
    'POST',
    swarm('&rotateManagerUnlockKey=maybe'),
    { Name: 'default' },
    /invalid value for rotateManagerUnlockKey: maybe/,
  ],
  ['POST', swarm(''), { CAConfig: { NodeCertExpiry: 1 } }, /minimum certificate expiry time is: 1h0m0s/],
  ['POST', swarm(''), { CAConfig: { ExternalCAs: [{ Protocol: 'acme' }] } }, /invalid protocol: "acme"/],
  ['POST', swarm(''), { CAConfig: { SigningCACert: 'no certificate' } }, /certificate|CA/],
  ['POST', swarm(''), { Dispatcher: { HeartbeatPeriod: -1 } }, /heartbeat time period cannot be a negative duration/],
  ['POST', swarm(''), { Labels: { 'io.swarmctl.rebalanse': 'on-join' } }, /no such setting of the cluster/],
  ['POST', swarm(''), { Labels: { 'io.swarmctl.rebalance': 'always' } }, /must be off or on-join/],
  ['POST', swarm(''), { Raft: { SnapshotInterval: -1 } }, /SnapshotInterval: -1 is out of range/],
  ['GET', '/v1.23/services', undefined, /client version 1\.23 is too old/],
  ['GET', '/v1.99/services', undefined, /client version 1\.99 is too new/],
  ['GET', '/events?since=yesterday', undefined, /invalid value for 'since'/],
  ['GET', '/events?since=9&until=1', undefined, /cannot be after `until` time/],
]

/** A body in which the field at this path is a list in a list, which no field takes. */
function wrongAt(path: string): object {
  return path.split('.').reduceRight<object>((inner, name) => ({ [name]: inner }), [[]])
}

/** Which request takes which object. */
const CREATED = {
  ServiceSpec: '/services/create',
  SecretSpec: '/secrets/create',
  ConfigSpec: '/configs/create',
  NetworkCreate: '/networks/create',
  SwarmSpec: '/swarm/update?version=1',
  NodeSpec: '/nodes/SELF/update?version=1',
} as const

t.test('what is malformed or contradicts itself is refused by name, and changes nothing', async (t) => {
  const { socket } = await serveApi(t)
  const call = async (method: string, path: string, body?: unknown) =>
    ask(socket, method, path, body === undefined ? {} : { body })
  await call('POST', '/swarm/init', { ListenAddr: '127.0.0.1:2377' })
  await call('POST', '/services/create', { ...container({}), Name: 'kept' })
  await call('POST', '/secrets/create', { Name: 'kept', Data: 'aGk=' })
  await call('POST', '/configs/create', { Name: 'kept', Data: 'aGk=' })
  const everything = async () =>
    Promise.all(
      ['/services', '/secrets', '/configs', '/networks', '/nodes', '/tasks', '/swarm'].map(
        async (path) => (await call('GET', path)).text,
      ),
    )
  const before = await everything()
  const [{ ID: self = '' } = {}] = (await call('GET', '/nodes')).json as readonly { readonly ID?: string }[]
  let refusals = 0
  const refused = async (method: string, path: string, body: unknown, says: string | RegExp) => {
    refusals++
    const name = path.replace('SELF', self)
    const of = name.replace(/\/update.*/, '')
    const version = name.includes('VERSION')
      ? ((await call('GET', of)).json as { readonly Version: { readonly Index: number } }).Version.Index
      : 0
    const answer = await call(method, name.replace('VERSION', String(version)), body)
    t.match(
      { isRefused: answer.status >= 400, message: answer.message },
      { isRefused: true, message: says },
      `${method} ${path} ${JSON.stringify(body)?.slice(0, 120)}`,
    )
  }
  for (const [body, says] of SERVICES) await refused('POST', '/services/create', body, says)
  for (const [method, path, body, says] of REQUESTS) await refused(method, path, body, says)
  t.same(await everything(), before, 'nothing has changed')

  for (const [kind, path] of Object.entries(CREATED)) {
    for (const field of description.objects[kind] ?? []) {
      if (field.includes('PluginSpec.')) continue // what a plugin has is not read: plugins are refused
      await refused(
        'POST',
        path,
        { Role: 'worker', ...wrongAt(field) },
        new RegExp(`invalid JSON: ${field.split('.')[0]}`, 'i'),
      )
    }
  }
  t.ok(refusals >= 350, `${refusals} inputs`)
  t.same(await everything(), before, 'nothing has changed')
})
