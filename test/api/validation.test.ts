// What the API takes and what it refuses, before any store: types, defaults, Swarm's limits and texts.

import t from 'tap'
import { serviceSpecWithDefaults, storedServiceSpec, swarmSpecWithDefaults } from '../../src/api/defaults.ts'
import { httpStatus } from '../../src/api/error-status.ts'
import { drainTimeMs, hasClientAffinity, prefersLocal } from '../../src/api/service-labels.ts'
import type { ServiceSpec } from '../../src/api/spec.ts'
import { parseConstraint } from '../../src/api/validation/constraint.ts'
import { decodeBody } from '../../src/api/validation/decode.ts'
import { isImageReference } from '../../src/api/validation/image-reference.ts'
import {
  configSpecDecoder,
  nodeSpecDecoder,
  secretSpecDecoder,
  swarmSpecDecoder,
} from '../../src/api/validation/object-decoders.ts'
import {
  validateConfigSpec,
  validateInit,
  validateJoin,
  validateNetworkSpec,
  validateSecretSpec,
  validateSwarmSpec,
} from '../../src/api/validation/payload.ts'
import { serviceSpecDecoder } from '../../src/api/validation/service-decoder.ts'
import { validateServiceRequest, validateServiceSpec } from '../../src/api/validation/service-spec.ts'
import { CodedError } from '../../src/lib/errors.ts'

function decodeService(spec: unknown): ServiceSpec {
  return decodeBody(serviceSpecDecoder, JSON.stringify(spec))
}

function checkService(spec: unknown): void {
  const decoded = decodeService(spec)
  validateServiceRequest(decoded)
  validateServiceSpec(storedServiceSpec(decoded, decoded.Name ?? ''))
}

function refusalOf(run: () => unknown): { readonly status: number; readonly message: string } {
  try {
    run()
  } catch (error) {
    if (error instanceof CodedError) return { status: httpStatus(error), message: error.message }
    throw error
  }
  return { status: 0, message: 'accepted' }
}

const container = (fields: object) => ({ Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'nginx', ...fields } } })
const task = (fields: object) => ({ Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'nginx' }, ...fields } })
const spec = (fields: object) => ({ Name: 'web', TaskTemplate: { ContainerSpec: { Image: 'nginx' } }, ...fields })
const grpc = (text: string) => `rpc error: code = InvalidArgument desc = ${text}`

const SECRET = { SecretID: 's1', SecretName: 'one', File: { Name: 'target' } }
const CONFIG = { ConfigID: 'c1', ConfigName: 'one', File: { Name: 'target' } }

t.test('a service that breaks a rule is refused with the text that Swarm has for it', async (t) => {
  const cases: readonly (readonly [string, unknown, string])[] = [
    ['no runtime', { Name: 'web' }, 'mismatched Runtime and *Spec fields'],
    ['unknown runtime', task({ Runtime: 'attachment' }), 'unsupported runtime'],
    ['two modes', spec({ Mode: { Global: {}, Replicated: {} } }), 'must specify only one service mode'],
    ['name with a dot', { ...spec({}), Name: 'a.b' }, grpc('name must be valid as a DNS name component')],
    ['long name', { ...spec({}), Name: 'a'.repeat(64) }, grpc('name must be 63 characters or fewer')],
    [
      'little CPU',
      task({ Resources: { Limits: { NanoCPUs: 1000 } } }),
      grpc('invalid cpu value 0.000001: Must be at least 0.001'),
    ],
    [
      'little memory',
      task({ Resources: { Reservations: { MemoryBytes: 1024 } } }),
      grpc('invalid memory value 1024: Must be at least 4MiB'),
    ],
    ['swap without memory', task({ Resources: { SwapBytes: 1 } }), 'memory swap provided, but no memory-limit was set'],
    ['negative delay', task({ RestartPolicy: { Delay: -1 } }), grpc('TaskSpec: restart-delay cannot be negative')],
    ['negative window', task({ RestartPolicy: { Window: -1 } }), grpc('TaskSpec: restart-window cannot be negative')],
    ['unknown condition', task({ RestartPolicy: { Condition: 'maybe' } }), 'invalid RestartCondition: "maybe"'],
    [
      'constraint without operator',
      task({ Placement: { Constraints: ['node.role'] } }),
      'rpc error: code = Unknown desc = constraint expected one operator from ==, !=',
    ],
    [
      'constraint with a bad key',
      task({ Placement: { Constraints: ['node.!==a'] } }),
      "rpc error: code = Unknown desc = key 'node.!' is invalid",
    ],
    ['negative update delay', spec({ UpdateConfig: { Delay: -1 } }), grpc('TaskSpec: update-delay cannot be negative')],
    ['negative monitor', spec({ UpdateConfig: { Monitor: -1 } }), grpc('TaskSpec: update-monitor cannot be negative')],
    [
      'ratio above one',
      spec({ UpdateConfig: { MaxFailureRatio: 1.5 } }),
      grpc('TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1'),
    ],
    [
      'unknown failure action',
      spec({ UpdateConfig: { FailureAction: 'panic' } }),
      'unrecognized update failure action panic',
    ],
    ['unknown order', spec({ UpdateConfig: { Order: 'random' } }), 'unrecognized update order random'],
    [
      'job with update config',
      spec({ Mode: { ReplicatedJob: {} }, UpdateConfig: {} }),
      grpc('Jobs may not have an update config'),
    ],
    [
      'no image',
      { Name: 'web', TaskTemplate: { ContainerSpec: {} } },
      grpc('ContainerSpec: image reference must be provided'),
    ],
    [
      'malformed image',
      container({ Image: 'Up:per:case' }),
      grpc('ContainerSpec: "Up:per:case" is not a valid repository/tag'),
    ],
    [
      'two mounts on one place',
      container({ Mounts: [{ Target: '/a' }, { Target: '/a' }] }),
      grpc('ContainerSpec: duplicate mount point: /a'),
    ],
    ['unknown mount type', container({ Mounts: [{ Type: 'floppy', Target: '/a' }] }), 'invalid MountType: "floppy"'],
    [
      'unknown propagation',
      container({ Mounts: [{ Target: '/a', BindOptions: { Propagation: 'up' } }] }),
      'invalid MountPropagation: "up"',
    ],
    [
      'short health interval',
      container({ Healthcheck: { Interval: 1000 } }),
      grpc('ContainerSpec: Interval in HealthConfig cannot be less than 1ms'),
    ],
    [
      'negative retries',
      container({ Healthcheck: { Retries: -1 } }),
      grpc('ContainerSpec: Retries in HealthConfig cannot be negative'),
    ],
    [
      'unclosed template',
      container({ Env: ['A={{.Node.ID'] }),
      grpc('expanding env failed: expanding env "A={{.Node.ID": template: expansion:1: unclosed action'),
    ],
    [
      'unknown template field',
      container({ Hostname: '{{.Nope}}' }),
      grpc(
        'expanding hostname failed: template: expansion:1:2: executing "expansion" at <.Nope>: can\'t evaluate field Nope in type *template.Context',
      ),
    ],
    [
      'secret without id',
      container({ Secrets: [{ SecretName: 'one', File: { Name: 'a' } }] }),
      grpc('malformed secret reference'),
    ],
    [
      'secret without target',
      container({ Secrets: [{ SecretID: 's', SecretName: 'one' }] }),
      grpc('malformed secret reference, no target provided'),
    ],
    [
      'two secrets in one place',
      container({ Secrets: [SECRET, { ...SECRET, SecretName: 'two' }] }),
      grpc("secret references 'one' and 'two' have a conflicting target: 'target'"),
    ],
    [
      'config without target',
      container({ Configs: [{ ConfigID: 'c', ConfigName: 'one' }] }),
      'invalid Config: either File or Runtime should be set',
    ],
    [
      'config with two targets',
      container({ Configs: [{ ...CONFIG, Runtime: {} }] }),
      'invalid Config: cannot specify both File and Runtime',
    ],
    [
      'two configs in one place',
      container({ Configs: [CONFIG, { ...CONFIG, ConfigName: 'two' }] }),
      grpc("config references 'one' and 'two' have a conflicting target: 'target'"),
    ],
    [
      'credentials from nowhere',
      container({ Privileges: { CredentialSpec: {} } }),
      'invalid CredentialSpec: must either provide "file", "registry", or "config" for credential spec',
    ],
    [
      'credentials from two places',
      container({ Privileges: { CredentialSpec: { File: 'a', Config: 'b' } } }),
      'invalid CredentialSpec: cannot specify both "config" and "file" credential specs',
    ],
    [
      'credentials from a config that is not there',
      container({ Privileges: { CredentialSpec: { Config: 'b' } } }),
      grpc("CredentialSpec references config 'b', but that config isn't in config references with RuntimeTarget"),
    ],
    [
      'ingress port with dnsrr',
      spec({ EndpointSpec: { Mode: 'dnsrr', Ports: [{ TargetPort: 80 }] } }),
      grpc("EndpointSpec: port published with ingress mode can't be used with dnsrr mode"),
    ],
    [
      'one port twice',
      spec({
        EndpointSpec: {
          Ports: [
            { TargetPort: 80, PublishedPort: 80 },
            { TargetPort: 81, PublishedPort: 80 },
          ],
        },
      }),
      grpc('EndpointSpec: duplicate published ports provided'),
    ],
    [
      'a port beyond ports',
      spec({ EndpointSpec: { Ports: [{ TargetPort: 70_000 }] } }),
      grpc('EndpointSpec: TargetPort 70000 is no port number'),
    ],
    [
      'a drain time that is none',
      spec({ Labels: { 'io.swarmctl.drain': '2' } }),
      grpc('label io.swarmctl.drain: invalid duration "2": write it like 500ms, 2s or 1m30s'),
    ],
    [
      'a drain time without end',
      spec({ Labels: { 'io.swarmctl.drain': '25h' } }),
      grpc('label io.swarmctl.drain: "25h" is longer than 1h'),
    ],
    [
      'progress deadline that is no duration',
      spec({ Labels: { 'io.swarmctl.update.progress-deadline': '90' } }),
      grpc('label io.swarmctl.update.progress-deadline: invalid duration "90": write it like 90s, 5m or 1m30s'),
    ],
    [
      'an affinity to nobody',
      spec({ Labels: { 'io.swarmctl.affinity': 'server' } }),
      grpc('label io.swarmctl.affinity: invalid value "server": must be client or none'),
    ],
    [
      'ports to prefer that are none',
      spec({ Labels: { 'io.swarmctl.prefer-local': '8080,http' } }),
      grpc(
        'label io.swarmctl.prefer-local: invalid value "8080,http": must be true, false or published ports such as 8080,5353/udp',
      ),
    ],
    ['unknown resolution', spec({ EndpointSpec: { Mode: 'magic' } }), 'invalid resolution mode: "magic"'],
  ]
  for (const [name, body, message] of cases) {
    const refused = refusalOf(() => checkService(body))
    t.equal(refused.message, message, name)
    t.ok(refused.status >= 400, `${name}: ${refused.status}`)
  }
})

t.test('labels that the data plane keeps to', async (t) => {
  const drains = ['2s', '1m30s', '1.5s', '250ms', '0s', '0', undefined].map((text) =>
    drainTimeMs(text === undefined ? {} : { 'io.swarmctl.drain': text }),
  )
  t.same(drains, [2_000, 90_000, 1_500, 250, 0, 0, 2_000])
  const prefers = (label: string, protocol: string, published: number) =>
    prefersLocal({ 'io.swarmctl.prefer-local': label }, { protocol, published })
  t.ok(prefers('true', 'tcp', 80) && prefers('80', 'udp', 80) && prefers('443, 80/tcp', 'tcp', 80))
  t.notOk(
    prefers('false', 'tcp', 80) || prefers('80/udp', 'tcp', 80) || prefersLocal({}, { protocol: 'tcp', published: 80 }),
  )
  t.ok(hasClientAffinity({ 'io.swarmctl.affinity': 'client' }))
  t.notOk(hasClientAffinity({ 'io.swarmctl.affinity': 'none' }))
})

t.test('a body of the wrong type is refused with the place of the mistake', async (t) => {
  const cases: readonly (readonly [unknown, string])[] = [
    [{ Name: 5 }, 'invalid JSON: Name: expected string, found number'],
    [
      { TaskTemplate: { ContainerSpec: { Env: ['A=b', 7] } } },
      'invalid JSON: TaskTemplate.ContainerSpec.Env[1]: expected string, found number',
    ],
    [{ Labels: { a: { b: 1 } } }, 'invalid JSON: Labels["a"]: expected string, found object'],
    [
      { Mode: { Replicated: { Replicas: -1 } } },
      'invalid JSON: Mode.Replicated.Replicas: -1 is out of range (0 to 9007199254740991)',
    ],
    [
      { Mode: { Replicated: { Replicas: 1.5 } } },
      'invalid JSON: Mode.Replicated.Replicas: 1.5 is no integer of at most 53 bits',
    ],
    [{ EndpointSpec: { Ports: {} } }, 'invalid JSON: EndpointSpec.Ports: expected array, found object'],
    [{ TaskTemplate: [] }, 'invalid JSON: TaskTemplate: expected object, found array'],
    [[], 'invalid JSON: expected object, found array'],
  ]
  for (const [body, message] of cases)
    t.same(
      refusalOf(() => decodeService(body)),
      { status: 400, message },
    )
  t.match(
    refusalOf(() => decodeBody(serviceSpecDecoder, '{"Name": ')),
    { status: 400, message: /^invalid JSON: / },
  )
})

t.test('null counts as absent and unknown fields are dropped, as Go decodes', async (t) => {
  const decoded = decodeService({
    Name: 'web',
    Labels: null,
    TaskTemplate: { ContainerSpec: { Image: 'a', Mounts: null, Nonsense: 1 } },
    UpdateConfig: null,
  })
  t.strictSame(decoded, {
    Name: 'web',
    Labels: {},
    TaskTemplate: { ContainerSpec: { Image: 'a', Isolation: 'default' }, ForceUpdate: 0 },
    Mode: {},
  })
  t.equal(decodeService({ name: 'lower' }).Name, 'lower')
  t.strictSame(Object.keys(decodeBody(serviceSpecDecoder, '{"Labels":{"__proto__":"x"}}').Labels ?? {}), ['__proto__'])
})

t.test('zeros that mean something are kept, empty fields are not', async (t) => {
  const decoded = decodeService({
    TaskTemplate: {
      ContainerSpec: { Image: 'a', Init: false, StopGracePeriod: 0, TTY: false, Env: [], Command: ['sh', ''] },
      RestartPolicy: { Delay: 0 },
    },
    Mode: { Replicated: { Replicas: 0 } },
  })
  t.strictSame(decoded.TaskTemplate?.ContainerSpec, {
    Image: 'a',
    Command: ['sh', ''],
    Init: false,
    StopGracePeriod: 0,
    Isolation: 'default',
  })
  t.strictSame(decoded.TaskTemplate?.RestartPolicy, { Condition: 'any', Delay: 0, MaxAttempts: 0 })
  t.equal(decoded.Mode?.Replicated?.Replicas, 0)
})

t.test('a spec is stored with a mode, a runtime, and its networks in the task', async (t) => {
  const decoded = decodeService({
    TaskTemplate: { ContainerSpec: { Image: 'a' } },
    Networks: [{ Target: 'n' }],
    EndpointSpec: { Ports: [{ TargetPort: 80 }] },
  })
  const stored = storedServiceSpec(decoded, 'web')
  t.strictSame(stored, {
    Name: 'web',
    Labels: {},
    TaskTemplate: {
      ContainerSpec: { Image: 'a', Isolation: 'default' },
      Networks: [{ Target: 'n' }],
      ForceUpdate: 0,
      Runtime: 'container',
    },
    Mode: { Replicated: { Replicas: 1 } },
    EndpointSpec: { Mode: 'vip', Ports: [{ Protocol: 'tcp', TargetPort: 80, PublishMode: 'ingress' }] },
  })
  t.strictSame(
    storedServiceSpec(decodeService(stored), 'web'),
    stored,
    'what was read back and written again is the same',
  )
  t.strictSame(storedServiceSpec(decodeService({ Mode: { ReplicatedJob: { MaxConcurrent: 3 } } }), 'j').Mode, {
    ReplicatedJob: { MaxConcurrent: 3, TotalCompletions: 3 },
  })
})

t.test('inspect with defaults shows what Swarm assumes', async (t) => {
  const shown = serviceSpecWithDefaults(storedServiceSpec(decodeService(container({})), 'web'))
  t.match(shown, {
    TaskTemplate: {
      ContainerSpec: { StopGracePeriod: 10_000_000_000, DNSConfig: {} },
      RestartPolicy: { Condition: 'any', Delay: 5_000_000_000, MaxAttempts: 0 },
    },
    UpdateConfig: {
      Parallelism: 1,
      FailureAction: 'pause',
      Monitor: 5_000_000_000,
      MaxFailureRatio: 0,
      Order: 'stop-first',
    },
    RollbackConfig: { Parallelism: 1 },
  })
})

t.test('image references follow the grammar of distribution', async (t) => {
  for (const good of [
    'nginx',
    'nginx:1.25',
    'user/app',
    'host:5000/app:x',
    'LOCALHOST.example/app',
    `a@sha256:${'0'.repeat(64)}`,
    'a/b/c_d--e.f',
    `sha256:${'a'.repeat(64)}`,
    '[::1]:5000/x',
  ]) {
    t.ok(isImageReference(good), good)
  }
  for (const bad of ['', 'UPPER', 'a:b:c', 'a//b', '-a', 'a@sha256:1', 'f'.repeat(64), 'a:', 'a b']) {
    t.notOk(isImageReference(bad), bad)
  }
})

t.test('constraints are a key, an operator and a value', async (t) => {
  t.same(parseConstraint(' node.labels.zone  !=  east-1 '), {
    kind: 'constraint',
    constraint: { key: 'node.labels.zone', operator: '!=', value: 'east-1' },
  })
  t.same(parseConstraint('a b==c'), { kind: 'refused', why: "key 'a b' is invalid" })
  t.same(parseConstraint('node.id=='), { kind: 'refused', why: "value '' is invalid" })
})

t.test('secrets and configs have names and sizes', async (t) => {
  const data = (bytes: number) => Buffer.alloc(bytes, 1).toString('base64')
  const sizes = /data must be larger than 0 and less than/
  t.match(refusalOf(() => validateSecretSpec({ Name: 's', Data: data(500 * 1024) })).message, sizes)
  t.match(refusalOf(() => validateSecretSpec({ Name: 's' })).message, sizes)
  validateSecretSpec({ Name: 's', Data: data(500 * 1024 - 1) })
  t.match(refusalOf(() => validateConfigSpec({ Name: 's', Data: data(1000 * 1024) })).message, sizes)
  validateConfigSpec({ Name: 's', Data: data(1000 * 1024 - 1) })
  t.match(refusalOf(() => validateSecretSpec({ Name: '.x', Data: data(1) })).message, /invalid name, only 64/)
  t.match(refusalOf(() => validateSecretSpec({ Name: 's', Driver: {} })).message, /secret driver must have a name/)
  t.match(
    refusalOf(() => decodeBody(secretSpecDecoder, '{"Data":"not base64!"}')).message,
    'invalid JSON: Data: illegal base64 data',
  )
  t.equal(decodeBody(configSpecDecoder, '{"Name":"c","Data":"aGk="}').Data, 'aGk=')
})

t.test('networks have names and subnets that hold their gateways', async (t) => {
  const ipam = (config: object) => ({ Name: 'n', IPAMOptions: { Configs: [config] } })
  const text = (network: Parameters<typeof validateNetworkSpec>[0]) =>
    refusalOf(() => validateNetworkSpec(network)).message
  t.match(text({ Name: 'bridge' }), 'bridge is a pre-defined network and cannot be created')
  t.match(text({ Name: 'a b' }), 'name must be valid as a DNS name component')
  t.match(text({ Name: 'n', Ingress: true, Attachable: true }), 'ingress network cannot be attachable')
  t.match(text(ipam({ Subnet: '10.0.0.0' })), 'ipam configuration: invalid subnet 10.0.0.0')
  t.match(
    text(ipam({ Subnet: '10.0.0.0/24', Gateway: '10.0.1.1' })),
    'ipam configuration: subnet 10.0.0.0/24 does not contain gateway 10.0.1.1',
  )
  t.match(text(ipam({ Subnet: '10.0.0.0/24', IPRange: 'x' })), 'ipam configuration: invalid range x')
  t.match(text(ipam({ Subnet: 'fd00::/64', IPRange: 'fd00:0:0:1::/80' })), 'does not contain range')
  validateNetworkSpec(ipam({ Subnet: 'fd00::/64', IPRange: 'fd00::1:0:0:0/80', Gateway: 'fd00::1' }))
  validateNetworkSpec(ipam({ Subnet: '10.0.0.0/16', IPRange: '10.0.3.0/24', Gateway: '10.0.3.1' }))
})

t.test('the cluster and its nodes have settings within limits', async (t) => {
  const text = (swarm: Parameters<typeof swarmSpecWithDefaults>[0]) =>
    refusalOf(() => validateSwarmSpec(swarmSpecWithDefaults(swarm))).message
  t.equal(text({}), 'accepted')
  t.match(text({ Name: 'mine' }), 'swarm spec must be named "default"')
  t.match(text({ CAConfig: { NodeCertExpiry: 1 } }), 'minimum certificate expiry time is: 1h0m0s')
  t.match(text({ Dispatcher: { HeartbeatPeriod: -1 } }), 'heartbeat time period cannot be a negative duration')
  t.match(
    refusalOf(() => decodeBody(swarmSpecDecoder, '{"CAConfig":{"ExternalCAs":[{"Protocol":"ftp"}]}}')).message,
    'invalid protocol: "ftp"',
  )
  t.match(
    refusalOf(() => decodeBody(nodeSpecDecoder, '{"Role":"boss","Availability":"active"}')).message,
    'invalid Role: "boss"',
  )
  t.match(refusalOf(() => decodeBody(nodeSpecDecoder, '{"Role":"worker"}')).message, 'invalid Availability: ""')
  t.match(
    refusalOf(() => validateInit(80, [], 0)).message,
    'Datapath port number is not in valid range (1024-49151) : 80',
  )
  t.match(
    refusalOf(() => validateInit(0, ['10.0.0.0'], 24)).message,
    'invalid base pool 10.0.0.0: invalid CIDR address: 10.0.0.0',
  )
  t.match(refusalOf(() => validateInit(0, ['10.0.0.0/24'], 16)).message, 'smaller than one subnet')
  t.match(refusalOf(() => validateJoin([], 'x')).message, 'at least 1 RemoteAddr is required to join')
  t.match(refusalOf(() => validateJoin(['a:1'], 'x')).message, 'invalid join token')
})

t.test('what is beside a container in a task is dropped, as dockerd drops it', async (t) => {
  const attached = {
    ...container({}).TaskTemplate,
    NetworkAttachmentSpec: { ContainerID: 'c' },
    PluginSpec: { Name: 'p' },
  }
  const stored = storedServiceSpec(decodeService({ TaskTemplate: attached }), 'web')
  t.strictSame(Object.keys(stored.TaskTemplate ?? {}), ['ContainerSpec', 'ForceUpdate', 'Runtime'])
})
