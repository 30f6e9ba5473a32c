// Requests whose answers were recorded from a real dockerd in Swarm mode (recorded-20.10.json, made by record.ts) and are
// compared with ours. Where ours is another on purpose, the request says what it is and why.

export interface Difference {
  readonly why: string
  /** the message; undefined: as Docker's */
  readonly message?: string
  readonly status?: number
  /** compared without the service's endpoint */
  readonly endpoint?: true
}

export interface Request {
  readonly method: 'GET' | 'POST' | 'DELETE'
  /** `{version:KIND/NAME}` stands for the present version of that object */
  readonly path: string
  readonly body?: unknown
  /** instead of a body: what is changed in the spec that a GET of this path shows */
  readonly edit?: { readonly of: string; readonly change: (spec: Readonly<Record<string, unknown>>) => unknown }
  readonly ours?: Difference
}

const get = (path: string, ours?: Difference): Request => ({ method: 'GET', path, ...(ours && { ours }) })
const post = (path: string, body?: unknown, ours?: Difference): Request => ({
  method: 'POST',
  path,
  ...(body !== undefined && { body }),
  ...(ours && { ours }),
})
const remove = (path: string, ours?: Difference): Request => ({ method: 'DELETE', path, ...(ours && { ours }) })
const filtered = (kind: string, filters: object | string, ours?: Difference): Request =>
  get(`/${kind}?filters=${encodeURIComponent(typeof filters === 'string' ? filters : JSON.stringify(filters))}`, ours)

const USER_ERROR: Difference = { why: 'a mistake of the client is a 400, not a 500', status: 400 }
const place = (message: string): Difference => ({ why: 'names the place in the body, not in Go’s types', message })

const UNALLOCATED: Difference = { why: 'no allocator runs in this test', endpoint: true }

const container = (fields: object, task: object = {}) => ({
  TaskTemplate: { ContainerSpec: { Image: 'nginx:1', ...fields }, ...task },
})

const ADDRESSES = { ListenAddr: '127.0.0.1:2377', AdvertiseAddr: '127.0.0.1:2377' }

const outside: readonly Request[] = [
  get('/services'),
  get('/swarm'),
  get('/nodes/nope'),
  post('/swarm/leave'),
  post('/swarm/init', { ...ADDRESSES, Spec: { Name: 'mine' } }),
  post('/swarm/init', { ...ADDRESSES, SubnetSize: 31, DefaultAddrPool: ['10.0.0.0/8'] }, USER_ERROR),
  post('/swarm/init', { ...ADDRESSES, SubnetSize: 24, DefaultAddrPool: ['10.0.0.0'] }, USER_ERROR),
  post('/swarm/init', { ...ADDRESSES, DataPathPort: 80 }, USER_ERROR),
  post('/swarm/join', { ListenAddr: '127.0.0.1:2377', RemoteAddrs: [], JoinToken: 'x' }),
  post('/swarm/join', { ListenAddr: '127.0.0.1:2377', RemoteAddrs: ['127.0.0.1:9'], JoinToken: 'x' }, USER_ERROR),
  post('/swarm/init', ADDRESSES),
  post('/swarm/init', ADDRESSES),
  post('/swarm/leave'),
  get('/swarm'),
  get('/swarm/unlockkey'),
  post('/swarm/unlock', {}),
]

const FULL = {
  ...container(
    {
      Labels: { b: '1', a: '2' },
      Command: ['a'],
      Args: ['b', ''],
      Hostname: 'h',
      Env: ['A=b'],
      Dir: '/',
      User: 'u',
      Groups: ['g'],
      TTY: true,
      OpenStdin: true,
      ReadOnly: true,
      StopSignal: 'SIGINT',
      StopGracePeriod: 0,
      Init: false,
      Mounts: [
        { Source: '/a', Target: '/b' },
        {
          Type: 'volume',
          Source: 'v',
          Target: '/v',
          VolumeOptions: { NoCopy: true, Labels: { a: 'b' }, DriverConfig: { Name: 'local', Options: { x: 'y' } } },
        },
        { Type: 'tmpfs', Target: '/t', TmpfsOptions: { SizeBytes: 5, Mode: 511 } },
        { Type: 'bind', Source: '/s', Target: '/s', BindOptions: { Propagation: 'rslave', NonRecursive: true } },
      ],
      Healthcheck: { Test: ['CMD', 'x'], Interval: 1e9, Retries: 3 },
      Hosts: ['1.2.3.4 a'],
      DNSConfig: { Nameservers: ['8.8.8.8'], Search: ['x'], Options: ['y'] },
      Isolation: '',
      Sysctls: { a: '1' },
      CapabilityAdd: ['CAP_NET_ADMIN'],
      CapabilityDrop: ['CAP_CHOWN'],
      Ulimits: [{ Name: 'nofile', Soft: 1, Hard: 2 }],
      Privileges: { SELinuxContext: { Disable: true } },
    },
    {
      Resources: {
        Limits: { NanoCPUs: 1e9, MemoryBytes: 1e8, Pids: 4 },
        Reservations: {
          NanoCPUs: 1e8,
          GenericResources: [
            { DiscreteResourceSpec: { Kind: 'gpu', Value: 2 } },
            { NamedResourceSpec: { Kind: 'x', Value: 'y' } },
          ],
        },
      },
      RestartPolicy: { Condition: 'on-failure', Delay: 0, Window: 5 },
      Placement: {
        Constraints: ['node.role==manager'],
        Preferences: [{ Spread: { SpreadDescriptor: 'node.labels.a' } }],
        MaxReplicas: 2,
        Platforms: [{ Architecture: 'amd64', OS: 'linux' }],
      },
      LogDriver: { Name: 'json-file', Options: { a: 'b' } },
      ForceUpdate: 3,
    },
  ),
  Labels: { z: '1' },
  Mode: { Replicated: { Replicas: 0 } },
  UpdateConfig: { Parallelism: 0, Delay: 1 },
  RollbackConfig: {
    Parallelism: 2,
    Order: 'start-first',
    MaxFailureRatio: 0.5,
    FailureAction: 'continue',
    Monitor: 7,
  },
  EndpointSpec: {
    Mode: 'vip',
    Ports: [
      { TargetPort: 80, PublishedPort: 9090, PublishMode: 'host' },
      { Protocol: 'udp', TargetPort: 53, Name: 'dns', PublishMode: 'host' },
    ],
  },
}

const accepted: Readonly<Record<string, object>> = {
  min: container({}),
  nulls: { ...container({}), Labels: null, Networks: null, UpdateConfig: null },
  full: FULL,
  everywhere: { ...container({}), Mode: { Global: {} } },
  dnsrr: { ...container({}), EndpointSpec: { Mode: 'dnsrr' } },
  job: { ...container({}), Mode: { ReplicatedJob: { MaxConcurrent: 2 } } },
  job2: { ...container({}), Mode: { ReplicatedJob: { TotalCompletions: 5 } } },
  job3: { ...container({}), Mode: { GlobalJob: {} }, RollbackConfig: {} },
  empty: {
    ...container(
      { DNSConfig: {}, Privileges: {}, Healthcheck: {}, Mounts: [], Env: [] },
      { Resources: { Limits: {}, Reservations: {} }, RestartPolicy: {}, Placement: {} },
    ),
    UpdateConfig: {},
    RollbackConfig: {},
    Mode: {},
    EndpointSpec: {},
  },
  credentials: container({ Privileges: { CredentialSpec: { File: 'x' } } }),
  templates: container({ Env: ['{{.Foo}}', 'A={{.Service.Labels.x}}'], Hostname: '{{.Node.Hostname}}-{{.Task.Slot}}' }),
}

const update = (
  name: string,
  change: (spec: Readonly<Record<string, unknown>>) => unknown,
  more = '',
  ours?: Difference,
): Request => ({
  method: 'POST',
  path: `/services/${name}/update?version={version:services/${name}}${more}`,
  edit: { of: `/services/${name}`, change },
  ...(ours && { ours }),
})

const same = (spec: unknown) => spec

const services: readonly Request[] = [
  ...Object.entries(accepted).flatMap(([Name, spec]) => [
    post('/services/create', { Name, ...spec }),
    get(`/services/${Name}`, Name === 'full' ? UNALLOCATED : undefined),
    get(`/services/${Name}?insertDefaults=true`, Name === 'full' ? UNALLOCATED : undefined),
  ]),
  update('min', same, '&rollback=previous'),
  update('min', (spec) => ({ ...spec, Labels: { v: '2' } })),
  get('/services/min'),
  update('min', (spec) => ({ ...spec, Name: 'other' })),
  update('min', ({ Name: _name, ...spec }) => spec),
  update('min', (spec) => ({ ...spec, Mode: { Global: {} } })),
  update('min', same, '&rollback=x', USER_ERROR),
  update('min', same, '&registryAuthFrom=x', {
    ...USER_ERROR,
    message: "invalid registryAuthFrom 'x'",
    why: 'as newer engines say it',
  }),
  update('everywhere', same, '&registryAuthFrom=previous-spec', USER_ERROR),
  post('/services/min/update?version=x', {}),
  post('/services/nope/update?version=1', container({})),
  post('/services/min/update?version=1', { Name: 'min', ...container({}) }),
  remove('/services/nope'),
]

const b = (spec: object): unknown => ({ Name: 'b', ...spec })
const ref = { SecretID: 'x', SecretName: 'x' }
const cfg = { ConfigID: 'x', ConfigName: 'x' }

const refusedServices: readonly Request[] = [
  ...[
    {},
    { Name: 'a b', ...container({}) },
    { Name: 'a'.repeat(64), ...container({}) },
    { Name: 'x.y', ...container({}) },
    b({ TaskTemplate: {} }),
    b({ TaskTemplate: { ContainerSpec: {} } }),
    b(container({ Image: 'UP:A:B' })),
    b(container({}, { Runtime: 'x' })),
    b({ ...container({}), Mode: { Global: {}, Replicated: {} } }),
    b(container({}, { Resources: { Limits: { NanoCPUs: 5 } } })),
    b(container({}, { Resources: { Limits: { NanoCPUs: -5 } } })),
    b(container({}, { Resources: { Limits: { MemoryBytes: 5 } } })),
    b(container({}, { RestartPolicy: { Condition: 'x' } })),
    b(container({}, { RestartPolicy: { Delay: -1 } })),
    b(container({}, { RestartPolicy: { Window: -1 } })),
    b(container({}, { Placement: { Constraints: ['x'] } })),
    b(container({}, { Placement: { Constraints: ['a b==c'] } })),
    b({ ...container({}), UpdateConfig: { Delay: -1 } }),
    b({ ...container({}), UpdateConfig: { Monitor: -1 } }),
    b({ ...container({}), UpdateConfig: { MaxFailureRatio: 2 } }),
    b({ ...container({}), UpdateConfig: { FailureAction: 'x' } }),
    b({ ...container({}), UpdateConfig: { Order: 'x' } }),
    b({ ...container({}), Mode: { ReplicatedJob: {} }, UpdateConfig: {} }),
    b(container({ Mounts: [{ Target: '/a' }, { Target: '/a' }] })),
    b(container({ Mounts: [{ Type: 'x', Target: '/a' }] })),
    b(container({ Mounts: [{ Target: '/a', BindOptions: { Propagation: 'x' } }] })),
    b(container({ Mounts: [{ Source: '{{.X}}', Target: '/a' }] })),
    b(container({ Healthcheck: { Interval: 5 } })),
    b(container({ Healthcheck: { Retries: -1 } })),
    b(container({ Hostname: '{{.Node.Foo}}' })),
    b(container({ Env: ['A={{.Task.Nope}}'] })),
    b(container({ Secrets: [{ SecretName: 'x' }] })),
    b(container({ Secrets: [ref] })),
    b(container({ Secrets: [{ ...ref, File: {} }] })),
    b(container({ Secrets: [{ ...ref, File: { Name: 'a' } }] })),
    b(
      container({
        Secrets: [
          { ...ref, File: { Name: 'a' } },
          { SecretID: 'y', SecretName: 'y', File: { Name: 'a' } },
        ],
      }),
    ),
    b(container({ Configs: [cfg] })),
    b(container({ Configs: [{ ...cfg, File: { Name: 'a' }, Runtime: {} }] })),
    b(container({ Configs: [{ ...cfg, File: { Name: 'a' } }] })),
    b(container({ Privileges: { CredentialSpec: {} } })),
    b(container({ Privileges: { CredentialSpec: { File: 'a', Registry: 'b' } } })),
    b(container({ Privileges: { CredentialSpec: { Config: 'a' } } })),
    b({ ...container({}), EndpointSpec: { Mode: 'dnsrr', Ports: [{ TargetPort: 80 }] } }),
    b({ ...container({}), EndpointSpec: { Mode: 'x' } }),
    b({
      ...container({}),
      EndpointSpec: {
        Ports: [
          { TargetPort: 80, PublishedPort: 80 },
          { TargetPort: 81, PublishedPort: 80 },
        ],
      },
    }),
    b({ ...container({}), EndpointSpec: { Ports: [{ TargetPort: 80, PublishedPort: 9090 }] } }),
    { Name: 'min', ...container({}) },
    { Name: 'MIN', ...container({}) },
  ].map((body) => post('/services/create', body)),
  post('/services/create', b(container({}, { Networks: [{ Target: 'nope' }] })), {
    why: 'what is not there is a 404',
    status: 404,
  }),
  post('/services/create', { Name: 5 }, place('invalid JSON: Name: expected string, found number')),
  post('/services/create', [], place('invalid JSON: expected object, found array')),
  post(
    '/services/create',
    b({ Mode: { Replicated: { Replicas: -1 } } }),
    place('invalid JSON: Mode.Replicated.Replicas: -1 is out of range (0 to 9007199254740991)'),
  ),
]

const NEWER: Difference = { why: 'as newer engines say it' }

const listings: readonly Request[] = [
  ...['services', 'tasks', 'nodes', 'secrets', 'configs'].map((kind) =>
    filtered(kind, { nope: ['y'] }, { ...NEWER, message: "invalid filter 'nope'" }),
  ),
  filtered('services', '{', { ...NEWER, message: 'invalid filter' }),
  filtered('services', { mode: ['x'] }),
  filtered('services', { name: ['nope'] }),
  filtered('tasks', { 'desired-state': ['x'] }, USER_ERROR),
  filtered('tasks', { service: ['nope'] }),
  filtered('tasks', { node: ['nope'] }),
  filtered('nodes', { role: ['x'] }, USER_ERROR),
  filtered('nodes', { membership: ['x'] }, USER_ERROR),
  get('/services?status=x'),
  get('/services/min?insertDefaults=x'),
  ...['services', 'tasks', 'nodes', 'secrets', 'configs'].map((kind) => get(`/${kind}/nope`)),
  get('/services/nope/logs?stdout=1'),
  get('/tasks/nope/logs?stdout=1'),
  get('/services/min/logs', { ...NEWER, status: 400, message: "must specify at least one of 'stdout' or 'stderr'" }),
  get('/services/min/logs?stdout=1&tail=x', USER_ERROR),
  get('/services/min/logs?stdout=1&tail=-2', USER_ERROR),
  get('/swarm/nope'),
  get('/services/min/nope'),
  get('/events?since=9&until=1', USER_ERROR),
]

const files: readonly Request[] = ['secret', 'config'].flatMap((kind) => [
  post(`/${kind}s/create`, {}),
  post(`/${kind}s/create`, { Name: 'a' }),
  post(`/${kind}s/create`, { Name: 'a', Data: '!!' }, place('invalid JSON: Data: illegal base64 data')),
  post(`/${kind}s/create`, { Name: '.a', Data: 'aGk=' }),
  post(`/${kind}s/create`, { Name: 'a', Data: 'aGk=', Labels: { b: 'c' } }),
  post(`/${kind}s/create`, { Name: 'a', Data: 'aGk=' }),
  post(`/${kind}s/create`, { Name: 't', Data: 'aGk=', Templating: { Name: 'golang' } }),
  get(`/${kind}s/a`),
  get(`/${kind}s/t`),
  post(`/${kind}s/a/update?version=x`, {}),
  post(`/${kind}s/a/update?version=1`, { Name: 'a' }),
  post(`/${kind}s/a/update?version=1`, { Name: 'b' }),
  post(`/${kind}s/a/update?version={version:${kind}s/a}`, { Name: 'a', Labels: { d: 'e' } }),
  get(`/${kind}s/a`),
  post(`/${kind}s/nope/update?version=1`, { Name: 'b' }),
  remove(`/${kind}s/a`),
  remove(`/${kind}s/a`),
])

const others: readonly Request[] = [
  post('/secrets/create', { Name: 'd', Driver: {} }),
  post('/networks/create', { Name: 'n1', Driver: 'overlay' }),
  post('/networks/create', { Name: 'n1', Driver: 'overlay' }),
  post('/networks/create', {
    Name: 'n3',
    Driver: 'overlay',
    IPAM: { Config: [{ Subnet: '10.9.0.0/24', Gateway: '1.1.1.1' }] },
  }),
  post('/networks/create', { Name: 'a b', Driver: 'overlay' }),
  post('/networks/create', { Name: 'in', Driver: 'overlay', Ingress: true, Attachable: true }),
  remove('/networks/n1'),
  post('/nodes/nope/update?version=1', { Role: 'worker', Availability: 'active' }),
  post('/nodes/nope/update?version=x', {}),
  post('/nodes/nope/update?version=1', { Role: 'x', Availability: 'active' }),
  remove('/nodes/nope'),
  post('/swarm/update?version=x', {}),
  post('/swarm/update?version=999999', { Name: 'default' }),
  post('/swarm/update?version=1&rotateWorkerToken=x', {}),
  post('/swarm/update?version=1', { Name: 'mine' }),
]

export const REQUESTS: readonly Request[] = [
  ...outside,
  ...services,
  ...refusedServices,
  ...listings,
  ...files,
  ...others,
]
