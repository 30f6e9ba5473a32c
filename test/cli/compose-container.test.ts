// What a compose file says of a service beyond Swarm's own specs: as labels where the specs have no field, as the fields
// that mean the same where they have, and refused where no cluster could keep to it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { CONTAINER_LABEL_PREFIX } from '../../src/api/container-labels.ts'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { convertNetworks } from '../../src/cli/compose/convert-objects.ts'
import { convertService } from '../../src/cli/compose/convert-service.ts'
import { loadCompose } from '../../src/cli/compose/load.ts'
import { ComposeError } from '../../src/cli/compose/node.ts'

const folder = mkdtempSync(join(tmpdir(), 'compose-container-'))
t.teardown(() => rmSync(folder, { recursive: true }))

const model = (keys: string, more = '') =>
  loadCompose([{ name: 'a.yml', text: `services:\n  web:\n    image: x\n    ${keys}\n${more}` }], {
    directory: folder,
    environment: {},
    envFiles: [],
  }).model

function spec(keys: string, more = ''): ServiceSpec {
  const compose = model(keys, more)
  return convertService('st', 'web', compose.services.get('web')!, compose).spec
}

/** The service's labels of ours; those of containers without their prefix. */
function labels(keys: string, more = ''): Readonly<Record<string, string>> {
  const own = Object.entries(spec(keys, more).Labels ?? {}).filter(([name]) => name.startsWith('io.swarmctl.'))
  return Object.fromEntries(own.map(([name, value]) => [name.replace(CONTAINER_LABEL_PREFIX, ''), value]))
}

function refusal(keys: string): string {
  try {
    spec(keys)
    return ''
  } catch (error) {
    if (!(error instanceof ComposeError)) throw error
    return error.message
  }
}

const LABELS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'annotations: {a: b}': { annotations: '{"a":"b"}' },
  'blkio_config: {weight: 300, device_write_iops: [{path: /dev/sda, rate: "30"}]}': {
    blkio: '{"weight":300,"device_write_iops":[{"path":"/dev/sda","rate":30}]}',
  },
  'cgroup: host': { cgroup: 'host' },
  'cgroupns_mode: private': { cgroup: 'private' },
  'cgroup_parent: a.slice': { 'cgroup-parent': 'a.slice' },
  'cpu_count: 2': { 'cpu-count': '2' },
  'cpu_percent: "50"': { 'cpu-percent': '50' },
  'cpu_period: 50ms': { 'cpu-period': '50000' },
  'cpu_quota: 12000': { 'cpu-quota': '12000' },
  'cpu_rt_period: 11ms': { 'cpu-rt-period': '11000' },
  'cpu_rt_runtime: "400us"': { 'cpu-rt-runtime': '400' },
  'cpu_shares: 73': { 'cpu-shares': '73' },
  'cpuset: 0,1': { cpuset: '0,1' },
  'device_cgroup_rules: ["c 1:3 mr", "a 7:* rmw"]': { 'device-cgroup-rules': 'c 1:3 mr,a 7:* rmw' },
  'devices: [/dev/fuse, {source: /dev/a, target: /dev/b, permissions: r}]': { devices: '/dev/fuse,/dev/a:/dev/b:r' },
  'domainname: example.org': { domainname: 'example.org' },
  'gpus: all': { 'device-requests': '[{"Count":-1,"Capabilities":[["gpu"]]}]' },
  'gpus: [{driver: nvidia, count: 2, capabilities: [gpu, utility], options: {a: b}}]': {
    'device-requests': '[{"Driver":"nvidia","Count":2,"Capabilities":[["gpu","utility"]],"Options":{"a":"b"}}]',
  },
  'deploy: {resources: {reservations: {devices: [{capabilities: [tpu], device_ids: ["0", "3"]}]}}}': {
    'device-requests': '[{"DeviceIDs":["0","3"],"Capabilities":[["tpu"]]}]',
  },
  'ipc: shareable': { ipc: 'shareable' },
  'mem_swappiness: 5': { 'mem-swappiness': '5' },
  'memswap_limit: 1g': { 'memswap-limit': '1073741824' },
  'memswap_limit: -1': { 'memswap-limit': '-1' },
  'oom_kill_disable: true': { 'oom-kill-disable': 'true' },
  'pid: host': { pid: 'host' },
  'privileged: true': { privileged: 'true' },
  'privileged: false': {},
  'runtime: runsc': { runtime: 'runsc' },
  'security_opt: [no-new-privileges, "label=level:s0:c1,c2"]': {
    'security-opt': '["no-new-privileges","label=level:s0:c1,c2"]',
  },
  'shm_size: 64M': { 'shm-size': '67108864' },
  'shm_size: 1024': { 'shm-size': '1024' },
  'storage_opt: {size: 10G}': { 'storage-opt': '{"size":"10G"}' },
  'tmpfs: ["/run:noexec,size=1m"]': { tmpfs: '{"/run":"noexec,size=1m"}' },
  'userns_mode: host': { userns: 'host' },
  'uts: host': { uts: 'host' },
}

t.test('what Swarm’s specs have no field for is a label', async (t) => {
  for (const [keys, wanted] of Object.entries(LABELS)) t.same(labels(keys), wanted, keys)
  t.same(labels('network_mode: bridge\n    mac_address: 02:42:ac:11:65:43'), { 'mac-address': '02:42:ac:11:65:43' })
})

t.test('a seccomp profile is the content of its file', async (t) => {
  writeFileSync(join(folder, 'profile.json'), '{ "defaultAction": "SCMP_ACT_ALLOW" }\n')
  writeFileSync(join(folder, 'broken.json'), '{')
  t.same(labels('security_opt: ["seccomp:profile.json"]'), {
    'security-opt': 'seccomp={"defaultAction":"SCMP_ACT_ALLOW"}',
  })
  t.match(
    refusal('security_opt: ["seccomp:none.json"]'),
    /^a\.yml:4:5: service web: security_opt: opening seccomp profile/,
  )
  t.match(refusal('security_opt: ["seccomp:broken.json"]'), /security_opt: seccomp profile .* is no JSON/)
})

t.test('what a service needs is a label with the names of the stack', async (t) => {
  const more = '  db: {image: x}\n  job: {image: x}\n  cache: {image: x}\n'
  t.same(labels('depends_on: [db, cache]', more), { 'io.swarmctl.depends-on': 'st_db:started,st_cache:started' })
  t.same(
    labels(
      'depends_on: {db: {condition: service_healthy}, job: {condition: service_completed_successfully}, none: {condition: service_started, required: false}}',
      more,
    ),
    { 'io.swarmctl.depends-on': 'st_db:healthy,st_job:completed' },
    'what is not there and not required is not waited for',
  )
})

t.test('older keys and those of the Specification mean what the specs can say', async (t) => {
  const { TaskTemplate: task } = spec(
    'mem_limit: 64m\n    mem_reservation: 32m\n    cpus: 0.5\n    pids_limit: 10\n    group_add: [1000, wheel]\n    dns_opt: [ndots:1]\n    platform: linux/arm64/v8\n    tmpfs: ["/run", "/tmp:size=1m,mode=1770"]',
  )
  t.same(task?.Resources, {
    Limits: { NanoCPUs: 500_000_000, MemoryBytes: 67_108_864, Pids: 10 },
    Reservations: { MemoryBytes: 33_554_432 },
  })
  t.same(task?.ContainerSpec?.Groups, ['1000', 'wheel'])
  t.same(task?.ContainerSpec?.DNSConfig, { Options: ['ndots:1'] })
  t.same(task?.Placement?.Constraints, ['node.platform.os==linux', 'node.platform.arch==aarch64'])
  t.same(task?.ContainerSpec?.Mounts, [
    { Type: 'tmpfs', Target: '/run' },
    { Type: 'tmpfs', Target: '/tmp', TmpfsOptions: { SizeBytes: 1_048_576, Mode: 0o1770 } },
  ])
  t.same(spec('scale: 3').Mode, { Replicated: { Replicas: 3 } })
  t.same(spec('network_mode: host').TaskTemplate?.Networks, [{ Target: 'host' }])
  t.same(convertNetworks('st', model('network_mode: none')), { own: [], external: [] }, 'and no network of the stack')
  t.same(
    spec('volumes: [{type: bind, source: /a, target: /b, bind: {create_host_path: true, recursive: readonly}}]')
      .TaskTemplate?.ContainerSpec?.Mounts,
    [
      {
        Type: 'bind',
        Source: '/a',
        Target: '/b',
        BindOptions: { CreateMountpoint: true, ReadOnlyForceRecursive: true },
      },
    ],
  )
})

t.test('a network of the stack has all that the file says', async (t) => {
  const compose = model(
    'networks: [n]',
    'networks: {n: {enable_ipv6: true, enable_ipv4: false, ipam: {config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.1, ip_range: 10.0.0.0/25, aux_addresses: {a: 10.0.0.5}}], options: {o: p}}}}',
  )
  t.match(convertNetworks('st', compose).own, [
    {
      Name: 'st_n',
      EnableIPv6: true,
      EnableIPv4: false,
      IPAM: {
        Config: [
          { Subnet: '10.0.0.0/24', Gateway: '10.0.0.1', IPRange: '10.0.0.0/25', AuxiliaryAddresses: { a: '10.0.0.5' } },
        ],
        Options: { o: 'p' },
      },
    },
  ])
})

const REFUSED: Readonly<Record<string, RegExp>> = {
  'network_mode: service:db': /^a\.yml:4:5: service web: network_mode: "service:db" cannot be: .*different nodes$/,
  'network_mode: mynet': /must be host, none or bridge; name networks under `networks`$/,
  'network_mode: host\n    networks: [n]': /network_mode and networks cannot be used together$/,
  'ipc: service:db': /ipc: "service:db" cannot be: tasks of services may run on different nodes$/,
  'pid: container:x': /pid: "container:x" cannot be/,
  'pid: mine': /pid: invalid value "mine": must be host$/,
  'devices: [fuse]': /devices: invalid value "fuse": must be \/dev\/NAME/,
  'shm_size: big': /^a\.yml:4:5: service web: invalid size: 'big'$/,
  'mem_limit: 1m\n    deploy: {resources: {limits: {memory: 2m}}}':
    /mem_limit and deploy\.resources\.limits\.memory say different things/,
  'scale: 2\n    deploy: {replicas: 3}': /^a\.yml:4:5: service web: scale and deploy\.replicas say different things/,
  'platform: Linux/amd64': /platform: invalid value "Linux\/amd64": must be as linux\/amd64$/,
  'gpus: [{count: 1, device_ids: ["0"]}]': /devices: only one of count and device_ids can be set$/,
  'gpus: [{count: many}]': /devices: invalid count "many"/,
  'cpuset: 0..1': /cpuset: invalid value "0\.\.1"/,
  'tmpfs: run': /tmpfs: invalid path "run": must be absolute$/,
  'blkio_config: {weight: 5}': /^a\.yml:4:5: service web: blkio_config: invalid value/,
  'mem_swappiness: 101': /mem_swappiness: invalid value "101": must be 0 to 100$/,
}

t.test('what cannot be is refused, with the place', async (t) => {
  for (const [keys, wanted] of Object.entries(REFUSED)) t.match(refusal(keys), wanted, keys)
})

t.test('addresses are labels: of published ports, and the service’s own on networks', async (t) => {
  const publish = (entries: string) =>
    Object.entries(labels(`ports: [${entries}]`)).map(([label, value]) => [
      label.replace('io.swarmctl.publish.', ''),
      value,
    ])
  const ports = (entries: string) =>
    (spec(`ports: [${entries}]`).EndpointSpec?.Ports ?? []).map(({ PublishedPort, TargetPort }) => [
      PublishedPort,
      TargetPort,
    ])
  t.same(publish('"127.0.0.1:8080:80"'), [['8080/tcp', '127.0.0.1']])
  t.same(publish('"127.0.0.1:8080-8081:80-81/udp"'), [
    ['8080/udp', '127.0.0.1'],
    ['8081/udp', '127.0.0.1'],
  ])
  const several =
    '"127.0.0.1:8080:80", "[fd00::1]:8080:80", {target: 80, published: 8080, mode: ingress, host_ip: "10.1.0.0/16, eth1"}'
  t.same(publish(several), [['8080/tcp', '127.0.0.1,fd00::1,10.1.0.0/16,eth1']])
  t.same(ports(several), [[8080, 80]], 'one port')
  t.same(publish('"0.0.0.0:8080:80", "[::]:8081:80"'), [], 'every address is none in particular')
  t.same(publish('"127.0.0.1:8080:80", "[::1]:8080:80"'), [['8080/tcp', '127.0.0.1,::1']])
  for (const [entries, wanted] of [
    ['"127.0.0.1::80"', /a port that is published on 127\.0\.0\.1 needs a published port/],
    [
      '"127.0.0.1:8080:80", "127.0.0.2:8080:81"',
      /published port 8080\/tcp can't lead to 80 on 127\.0\.0\.1 and to 81 elsewhere/,
    ],
    ['{target: 80, published: 80, host_ip: localhost}', /a\.yml:4:13: .*invalid host IP: invalid value "localhost"/],
    ['"[::1]:80:80"', /ports: host_ip: ::1 alone can’t be/],
    ['"[fe80::1]:80:80"', /"fe80::1" is on every link/],
    ['"1.2.3:80:80"', /invalid IP address: 1\.2\.3/],
  ] as const) {
    t.match(refusal(`ports: [${entries}]`), wanted, entries)
  }

  const own = (keys: string) => labels(`networks: {n: ${keys}}`, 'networks: {n: {}}')
  t.same(own('{ipv4_address: 10.0.9.10, ipv6_address: "fd00::10"}'), {
    'io.swarmctl.network.st_n.ip': '10.0.9.10,fd00::10',
  })
  t.same(labels('networks: {n: {ipv6_address: "fd00::10"}}', 'networks: {n: {name: front}}'), {
    'io.swarmctl.network.front.ip': 'fd00::10',
  })
  t.throws(() => own('{ipv4_address: 10.0.9.300}'), {
    message: /networks\.n: ipv4_address: invalid value "10\.0\.9\.300"/,
  })
  t.throws(() => own('{ipv4_address: "fd00::1"}'), { message: /"fd00::1" is of the other family/ })
  t.throws(
    () => labels('networks: {n: {ipv4_address: 10.0.9.1}}\n    deploy: {endpoint_mode: dnsrr}', 'networks: {n: {}}'),
    {
      message: /with endpoint_mode: dnsrr there is none/,
    },
  )
})

t.test('a later file’s ports take the place of those at the same number, on whatever address', async (t) => {
  const merged = (...files: readonly string[]) => {
    const compose = loadCompose(
      files.map((ports, at) => ({ name: `${at}.yml`, text: `services: {web: {image: x, ports: [${ports}]}}` })),
      { directory: folder, environment: {}, envFiles: [] },
    ).model
    const { Labels = {} } = convertService('st', 'web', compose.services.get('web')!, compose).spec
    return Labels['io.swarmctl.publish.8080/tcp']
  }
  t.equal(merged('"8080:80"', '"127.0.0.1:8080:80"'), '127.0.0.1')
  t.equal(merged('"127.0.0.1:8080:80"', '"8080:80"'), undefined)
  t.equal(merged('"127.0.0.1:8080:80", "10.0.0.1:8080:80"', '"81:81"'), '10.0.0.1,127.0.0.1')
})

t.test('pull_policy is a label, where a cluster can keep to it', async (t) => {
  for (const [policy, value] of [
    ['always', 'always'],
    ['missing', 'missing'],
    ['if_not_present', 'missing'],
    ['never', 'never'],
  ]) {
    t.same(labels(`pull_policy: ${policy}`), { 'io.swarmctl.pull-policy': value })
  }
  t.match(
    refusal('pull_policy: build'),
    /^a\.yml:4:5: service web: pull_policy: "build" can't be: a cluster builds no images/,
  )
  t.match(refusal('pull_policy: every_12h'), /nodes pull when a task starts, and not by the clock/)
  t.match(refusal('pull_policy: sometimes'), /it is not known; it must be always, missing, if_not_present or never$/)
})
