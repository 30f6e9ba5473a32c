// What labels ask of a container beyond Swarm's specs: refused where they can't be understood or the cluster does not allow
// them, and put into the body that the engine gets.

import t from 'tap'
import { CONTAINER_OPTIONS, containerLabel, engineFields } from '../../src/api/container-labels.ts'
import type { EndpointSpec } from '../../src/api/spec.ts'
import { DirtyTasks } from '../../src/manager/orchestrator/task-dirty.ts'
import { containerBody } from '../../src/worker/docker/container-body.ts'
import { ask } from '../support/api-client.ts'
import { aService, aTask } from '../support/objects.ts'
import { serveApi } from '../support/served-api.ts'
import { makeOrder, makeTask } from '../worker/task-factory.ts'

interface Example {
  readonly value: string
  readonly fields: object
  readonly wrong: string
  /** The cluster has to allow it. */
  readonly reaches?: true
  /** Another value, of the other kind. */
  readonly harmless?: string
}

const host = (fields: object) => ({ config: {}, host: fields })

const EXAMPLES: Readonly<Record<string, Example>> = {
  annotations: { value: 'a=b,c=d', fields: host({ Annotations: { a: 'b', c: 'd' } }), wrong: '{"a":1}' },
  blkio: {
    value:
      '{"weight":300,"weight_device":[{"path":"/dev/sda","weight":10}],"device_read_bps":[{"path":"/dev/sda","rate":5}]}',
    fields: host({
      BlkioWeight: 300,
      BlkioWeightDevice: [{ Path: '/dev/sda', Weight: 10 }],
      BlkioDeviceReadBps: [{ Path: '/dev/sda', Rate: 5 }],
    }),
    wrong: '{"weight":5}',
  },
  cgroup: { value: 'host', fields: host({ CgroupnsMode: 'host' }), wrong: 'none', reaches: true, harmless: 'private' },
  'cgroup-parent': { value: 'a.slice', fields: host({ CgroupParent: 'a.slice' }), wrong: '', reaches: true },
  'cpu-count': { value: '2', fields: host({ CpuCount: 2 }), wrong: '-1' },
  'cpu-percent': { value: '50', fields: host({ CpuPercent: 50 }), wrong: '101' },
  'cpu-period': { value: '100000', fields: host({ CpuPeriod: 100_000 }), wrong: '5ms' },
  'cpu-quota': { value: '50000', fields: host({ CpuQuota: 50_000 }), wrong: 'half' },
  'cpu-rt-period': { value: '1000', fields: host({ CpuRealtimePeriod: 1000 }), wrong: 'x' },
  'cpu-rt-runtime': { value: '900', fields: host({ CpuRealtimeRuntime: 900 }), wrong: '1.5' },
  'cpu-shares': { value: '512', fields: host({ CpuShares: 512 }), wrong: '999999' },
  cpuset: { value: '0-1,3', fields: host({ CpusetCpus: '0-1,3' }), wrong: '0..1' },
  'device-cgroup-rules': {
    value: 'c 13:* rwm',
    fields: host({ DeviceCgroupRules: ['c 13:* rwm'] }),
    wrong: 'c 13',
    reaches: true,
  },
  'device-requests': {
    value: '[{"Driver":"cdi","DeviceIDs":["a/b=c"]}]',
    fields: host({ DeviceRequests: [{ Driver: 'cdi', DeviceIDs: ['a/b=c'] }] }),
    wrong: '[{"driver":"cdi"}]',
    reaches: true,
    harmless: '[{"Count":-1,"Capabilities":[["gpu"]]}]',
  },
  devices: {
    value: '/dev/fuse,/dev/a:/dev/b:r,vendor.com/gpu=0',
    fields: host({
      Devices: [
        { PathOnHost: '/dev/fuse', PathInContainer: '/dev/fuse', CgroupPermissions: 'rwm' },
        { PathOnHost: '/dev/a', PathInContainer: '/dev/b', CgroupPermissions: 'r' },
      ],
      DeviceRequests: [{ Driver: 'cdi', DeviceIDs: ['vendor.com/gpu=0'] }],
    }),
    wrong: 'fuse',
    reaches: true,
  },
  domainname: { value: 'example.org', fields: { config: { Domainname: 'example.org' }, host: {} }, wrong: 'a b' },
  ipc: { value: 'host', fields: host({ IpcMode: 'host' }), wrong: 'container:x', reaches: true, harmless: 'shareable' },
  'mac-address': {
    value: '02:42:ac:11:65:43',
    fields: { config: { MacAddress: '02:42:ac:11:65:43' }, host: {} },
    wrong: '02:42',
  },
  'mem-swappiness': { value: '10', fields: host({ MemorySwappiness: 10 }), wrong: '101' },
  'memswap-limit': { value: '1.5g', fields: host({ MemorySwap: 1_610_612_736 }), wrong: '-2' },
  'oom-kill-disable': {
    value: 'true',
    fields: host({ OomKillDisable: true }),
    wrong: 'yes',
    reaches: true,
    harmless: 'false',
  },
  pid: { value: 'host', fields: host({ PidMode: 'host' }), wrong: 'private', reaches: true },
  privileged: { value: 'true', fields: host({ Privileged: true }), wrong: '1', reaches: true, harmless: 'false' },
  runtime: { value: 'runsc', fields: host({ Runtime: 'runsc' }), wrong: '/bin/sh' },
  'security-opt': {
    value: 'no-new-privileges:true,seccomp=unconfined',
    fields: host({ SecurityOpt: ['no-new-privileges:true', 'seccomp=unconfined'] }),
    wrong: 'everything',
    reaches: true,
    harmless: 'no-new-privileges,apparmor=docker-default',
  },
  'shm-size': { value: '64m', fields: host({ ShmSize: 67_108_864 }), wrong: 'big' },
  'storage-opt': { value: 'size=10G', fields: host({ StorageOpt: { size: '10G' } }), wrong: 'size' },
  tmpfs: { value: '{"/run":"noexec,size=1m"}', fields: host({ Tmpfs: { '/run': 'noexec,size=1m' } }), wrong: 'run=x' },
  userns: { value: 'host', fields: host({ UsernsMode: 'host' }), wrong: 'x', reaches: true },
  uts: { value: 'host', fields: host({ UTSMode: 'host' }), wrong: 'x', reaches: true },
}

t.test('every option has an example, and is to the engine what it should be', async (t) => {
  t.same(
    CONTAINER_OPTIONS.map(({ name }) => name),
    Object.keys(EXAMPLES),
  )
  for (const [name, { value, fields, wrong }] of Object.entries(EXAMPLES)) {
    t.same(engineFields({ [containerLabel(name)]: value }), fields, name)
    t.same(engineFields({ [containerLabel(name)]: wrong }), { config: {}, host: {} }, `${name}: ${wrong}`)
  }
})

t.test('the API takes what it understands and the cluster allows, and refuses the rest with the reason', async (t) => {
  const { socket, cluster } = await serveApi(t)
  await ask(socket, 'POST', '/swarm/init', { body: { ListenAddr: '127.0.0.1:2377' } })
  let count = 0
  const create = async (Labels: Readonly<Record<string, string>>, TaskTemplate: object = {}) => {
    const body = { Name: `s${count++}`, Labels, TaskTemplate: { ContainerSpec: { Image: 'x' }, ...TaskTemplate } }
    const { status, json } = await ask(socket, 'POST', '/services/create', { body })
    return { status, message: (json as { message?: string }).message ?? '' }
  }
  for (const [name, { value, wrong, reaches, harmless }] of Object.entries(EXAMPLES)) {
    const label = containerLabel(name)
    const bad = await create({ [label]: wrong })
    t.equal(bad.status, 400, `${name}=${wrong}`)
    t.match(bad.message, `label ${label}: invalid value ${JSON.stringify(wrong)}: must be `)
    const bridge = name === 'mac-address' ? { Networks: [{ Target: 'bridge' }] } : {}
    const good = await create({ [label]: value }, bridge)
    t.equal(good.status, reaches ? 400 : 201, `${name}=${value}: ${good.message}`)
    if (reaches) t.match(good.message, /power over the nodes.*swarm update --label-add io\.swarmctl\.host-access=allow/)
    if (harmless !== undefined) t.equal((await create({ [label]: harmless })).status, 201, `${name}=${harmless}`)
  }
  t.match(
    (await create({ 'io.swarmctl.container.priviliged': 'true' })).message,
    /no such option of containers: annotations,/,
  )
  t.match(
    (await create({ 'io.swarmctl.depends-on': 'db' })).message,
    /must be NAME:started, NAME:healthy or NAME:completed/,
  )
  const annotation = { [containerLabel('annotations')]: '{"cdi.k8s.io/x":"vendor.com/device=all"}' }
  t.match((await create(annotation)).message, /annotations: it gives power over the nodes/)
  const mac = { [containerLabel('mac-address')]: '02:42:ac:11:65:43' }
  t.match((await create(mac, { Networks: [{ Target: 'host' }] })).message, /attach it to the network bridge alone/)
  t.equal(cluster.store.list('service').length, Object.values(EXAMPLES).filter(({ reaches }) => !reaches).length + 6)

  const plan = async (Labels: Readonly<Record<string, string>>) => {
    const Spec = { Name: 'st_tool', Labels, TaskTemplate: { ContainerSpec: { Image: 'x' } } }
    const body = {
      Networks: [],
      Secrets: [],
      Configs: [],
      Services: [{ Spec, Secrets: [], Configs: [], KeepImage: false }],
    }
    return (await ask(socket, 'POST', '/swarmd/stacks/st/plan', { body })).json
  }
  t.match(await plan({ [containerLabel('pid')]: 'host' }), { message: /service st_tool: label \S+: it gives power/ })
  t.match(await plan({ [containerLabel('pid')]: 'mine' }), {
    message: /service st_tool: label \S+: invalid value "mine"/,
  })
  t.notOk('message' in ((await plan({ [containerLabel('shm-size')]: '1m' })) as object))

  const { json: swarm } = await ask(socket, 'GET', '/swarm')
  const { Version, Spec } = swarm as { Version: { Index: number }; Spec: object }
  const set = async (value: string) =>
    ask(socket, 'POST', `/swarm/update?version=${Version.Index}`, {
      body: { ...Spec, Labels: { 'io.swarmctl.host-access': value } },
    })
  t.match((await set('sometimes')).json, { message: /io\.swarmctl\.host-access: invalid value "sometimes"/ })
  t.equal((await set('allow')).status, 200)
  t.equal((await create({ [containerLabel('privileged')]: 'true' })).status, 201)
})

t.test('labels join what the spec itself says', async (t) => {
  const task = {
    ...makeTask({ id: 'a' }),
    serviceLabels: {
      [containerLabel('security-opt')]: 'apparmor=x',
      [containerLabel('shm-size')]: '1m',
      [containerLabel('domainname')]: 'd',
      other: 'label',
    },
  }
  const spec = { Image: 'x', ReadOnly: true, Privileges: { NoNewPrivileges: true } }
  t.match(containerBody(makeOrder(task), { spec, files: [], dockerSocket: undefined }), {
    Domainname: 'd',
    HostConfig: {
      ReadonlyRootfs: true,
      ShmSize: 1_048_576,
      SecurityOpt: ['no-new-privileges=true', 'apparmor=x'],
    },
  })
})

t.test('tasks are replaced when an option changes, and not for another label', async (t) => {
  const dirty = (before: Record<string, string>, after: Record<string, string>, ports: EndpointSpec = {}) => {
    const endpoint = { spec: ports, ports: [], virtualIps: [] }
    const task = { ...aTask('t', 's'), serviceLabels: before, specVersion: 1, endpoint }
    const service = aService('s')
    const changed = {
      ...service,
      specVersion: 2,
      spec: { ...service.spec, Labels: after, TaskTemplate: task.spec, EndpointSpec: ports },
    }
    return new DirtyTasks(changed).has(task, undefined)
  }
  const shm = containerLabel('shm-size')
  t.notOk(dirty({ [shm]: '1m' }, { [shm]: '1m', a: 'b' }))
  t.ok(dirty({ [shm]: '1m' }, { [shm]: '2m' }))
  t.ok(dirty({}, { [shm]: '2m' }))
  t.ok(dirty({ [shm]: '1m' }, {}))

  const publish = (addresses: string) => ({ 'io.swarmctl.publish.8080/tcp': addresses })
  const onHost = { Ports: [{ TargetPort: 80, PublishedPort: 8080, PublishMode: 'host' as const }] }
  t.ok(dirty(publish('127.0.0.1'), publish('127.0.0.2'), onHost), 'a host-mode port stands in the container')
  t.notOk(dirty(publish('127.0.0.1,127.0.0.2'), publish('127.0.0.2, 127.0.0.1'), onHost))
  t.notOk(dirty(publish('127.0.0.1'), {}), 'others do not')
})
