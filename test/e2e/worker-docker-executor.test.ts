// DockerExecutor on a real engine: the conformance suite of all executors, then everything that only Docker shows.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t from 'tap'
import type { Task } from '../../src/api/objects.ts'
import type { ContainerSpec, TaskSpec } from '../../src/api/spec.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { errorMessage } from '../../src/lib/errors.ts'
import { silentLog } from '../../src/lib/log.ts'
import { SystemRandom } from '../../src/lib/random.ts'
import { DockerExecutor } from '../../src/worker/docker/docker-executor.ts'
import type { ObservedContainer } from '../../src/worker/executor.ts'
import { executorConformance, type Fixture, type Workbench } from '../worker/executor-conformance.ts'
import { makeConfig, makeOrder, makeSecret, makeTask } from '../worker/task-factory.ts'
import { BOX_IMAGE, WorkerEngine } from './worker-engine.ts'

const NODE_ID = 'node1'
const STEADY = 'trap "exit 0" TERM; while :; do sleep 60 & wait $!; done'
const HANGING_REGISTRY_PORT = 5999

const clock = new SystemClock()
const random = new SystemRandom()
const engine = await WorkerEngine.up('swarmctl-worker')
t.teardown(() => engine.down())
const executor = new DockerExecutor({
  nodeId: NODE_ID,
  engine: `unix://${engine.socket}`,
  execRoot: engine.execRoot,
  clock,
  log: silentLog,
  dockerSocket: () => Promise.resolve({ path: join(engine.dir, 'swarmd.sock'), isShared: false }),
})

const shell = (script: string, over: ContainerSpec = {}): ContainerSpec => ({
  Image: BOX_IMAGE,
  Command: ['/bin/sh', '-c'],
  Args: [script],
  ...over,
})

const check = (test: string) => ({ Test: ['CMD-SHELL', test], Interval: 200e6, Timeout: 5e9, Retries: 1 })

const FIXTURES: Readonly<Record<Fixture, ContainerSpec>> = {
  steady: shell(STEADY),
  'exits-0': shell('exit 0'),
  'exits-3': shell('exit 3'),
  prints: shell('echo one; echo two'),
  'no-image': { Image: 'localhost:1/nowhere:7' },
  'start-fails': { Image: BOX_IMAGE, Command: ['/no/such/program'] },
  'turns-healthy': shell(STEADY, { Healthcheck: check('true') }),
  'turns-unhealthy': shell(STEADY, { Healthcheck: check('false') }),
  stubborn: shell('trap "" TERM; while :; do sleep 1; done', { StopGracePeriod: 1e9 }),
  'slow-pull': { Image: `127.0.0.1:${HANGING_REGISTRY_PORT}/slow:1` },
}

async function until(condition: () => boolean, what: string): Promise<void> {
  for (let waitedMs = 0; !condition(); waitedMs += 10) {
    if (waitedMs > 60_000) throw new Error(`${what} did not come true`)
    await delay(10)
  }
}

const bench: Workbench = {
  executor,
  clock,
  task: (fixture) => makeTask({ id: random.id(), nodeId: NODE_ID, spec: { ContainerSpec: FIXTURES[fixture] } }),
  until,
  wait: (promise) => promise,
  elapse: (durationMs) => delay(durationMs),
}

const never = new AbortController().signal

function taskOf(spec: ContainerSpec, over: Partial<TaskSpec> = {}, facts: Partial<Task> = {}): Task {
  return { ...makeTask({ id: random.id(), nodeId: NODE_ID, spec: { ContainerSpec: spec, ...over } }), ...facts }
}

async function runToEnd(task: Task, given: Parameters<typeof makeOrder>[1] = {}): Promise<string> {
  const container = await executor.start(await executor.prepare(makeOrder(task, given), never))
  const chunks: Buffer[] = []
  const all = { follow: true, tail: undefined, since: '', until: '', stdout: true, stderr: true }
  for await (const chunk of executor.logs(container, all, never)) chunks.push(Buffer.from(chunk))
  await executor.remove(container, never)
  return payloads(Buffer.concat(chunks))
}

/** The text of a multiplexed log without its timestamps. */
function payloads(log: Buffer): string {
  let text = ''
  for (let at = 0; at < log.length; ) {
    const size = log.readUInt32BE(at + 4)
    text += log
      .subarray(at + 8, at + 8 + size)
      .toString()
      .replace(/^\S+ /, '')
    at += 8 + size
  }
  return text
}

async function inspected(container: ObservedContainer): Promise<Record<string, unknown>> {
  return (JSON.parse(await engine.docker('inspect', container.containerId)) as Record<string, unknown>[])[0]!
}

async function failure(promise: Promise<unknown>): Promise<string> {
  return promise.then(() => 'it succeeded', errorMessage)
}

t.test('a Docker executor does what every executor does', async (t) => {
  // It accepts connections and never answers.
  const script = `require('net').createServer().listen(${HANGING_REGISTRY_PORT}, () => console.log('listening'))`
  const [program = '', ...args] = engine.inNetwork([process.execPath, '-e', script])
  const registry = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => registry.kill('SIGKILL'))
  await once(registry.stdout, 'data')
  await executorConformance(t, bench)
})

t.test('a container bears everything that its service asked for', async (t) => {
  const task = taskOf(
    shell(STEADY, {
      Labels: { own: 'label' },
      Hostname: '{{.Service.Name}}-{{.Task.Slot}}',
      Env: ['NODE={{.Node.Hostname}}', 'TASK={{.Task.Name}}', 'TIER={{index .Service.Labels "tier"}}'],
      Dir: '/tmp',
      User: '1000:1001',
      Groups: ['1002'],
      TTY: true,
      OpenStdin: true,
      ReadOnly: true,
      Init: true,
      StopSignal: 'SIGINT',
      StopGracePeriod: 7e9,
      Healthcheck: { Test: ['CMD', 'true'], Interval: 9e9, Retries: 4 },
      Hosts: ['10.1.2.3 db database'],
      DNSConfig: { Nameservers: ['10.9.9.9'], Search: ['example.org'], Options: ['ndots:3'] },
      Sysctls: { 'net.core.somaxconn': '512' },
      CapabilityAdd: ['CAP_NET_ADMIN'],
      CapabilityDrop: ['CAP_MKNOD'],
      Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
      OomScoreAdj: 50,
      Privileges: { NoNewPrivileges: true, Seccomp: { Mode: 'unconfined' } },
      Mounts: [
        { Type: 'bind', Source: '/tmp', Target: '/host', ReadOnly: true },
        { Type: 'volume', Source: 'vol-{{.Service.Name}}', Target: '/data', VolumeOptions: { Labels: { a: 'b' } } },
        { Type: 'tmpfs', Target: '/scratch', TmpfsOptions: { SizeBytes: 1_048_576, Mode: 0o700 } },
        { Type: 'bind', Source: '/var/run/docker.sock', Target: '/var/run/docker.sock' },
      ],
    }),
    {
      Resources: {
        Limits: { NanoCPUs: 500_000_000, MemoryBytes: 64 << 20, Pids: 50 },
        Reservations: { MemoryBytes: 32 << 20 },
        SwapBytes: 16 << 20,
        MemorySwappiness: 10,
      },
      LogDriver: { Name: 'local', Options: { 'max-size': '1m' } },
    },
    { serviceLabels: { tier: 'front' } },
  )
  // A stand-in for this node's API socket.
  const server = createServer().listen(join(engine.dir, 'swarmd.sock'))
  t.teardown(() => server.close())
  await once(server, 'listening')
  const container = await executor.prepare(makeOrder(task), never)
  const all = await inspected(container)
  t.match(all, {
    Name: `/web.1.${task.id}`,
    Config: {
      Hostname: 'web-1',
      Env: ['NODE=host1', `TASK=web.1.${task.id}`, 'TIER=front'],
      WorkingDir: '/tmp',
      User: '1000:1001',
      Tty: true,
      OpenStdin: true,
      Entrypoint: ['/bin/sh', '-c'],
      Cmd: [STEADY],
      StopSignal: 'SIGINT',
      StopTimeout: 7,
      Healthcheck: { Test: ['CMD', 'true'], Interval: 9e9, Retries: 4 },
      Labels: {
        own: 'label',
        'com.docker.swarm.task': '',
        'com.docker.swarm.task.id': task.id,
        'com.docker.swarm.task.name': `web.1.${task.id}`,
        'com.docker.swarm.node.id': NODE_ID,
        'com.docker.swarm.service.id': 'service1',
        'com.docker.swarm.service.name': 'web',
      },
    },
    HostConfig: {
      GroupAdd: ['1002'],
      ReadonlyRootfs: true,
      Init: true,
      ExtraHosts: ['db:10.1.2.3'],
      Dns: ['10.9.9.9'],
      DnsSearch: ['example.org'],
      DnsOptions: ['ndots:3'],
      Sysctls: { 'net.core.somaxconn': '512' },
      CapAdd: ['CAP_NET_ADMIN'],
      CapDrop: ['CAP_MKNOD'],
      Ulimits: [{ Name: 'nofile', Soft: 100, Hard: 200 }],
      OomScoreAdj: 50,
      SecurityOpt: ['seccomp=unconfined', 'no-new-privileges=true'],
      NanoCpus: 500_000_000,
      Memory: 64 << 20,
      MemoryReservation: 32 << 20,
      MemorySwap: 80 << 20,
      MemorySwappiness: 10,
      PidsLimit: 50,
      LogConfig: { Type: 'local', Config: { 'max-size': '1m' } },
      NetworkMode: 'default',
    },
  })
  const mounts = (all.Mounts as { Type: string; Source: string; Destination: string; RW: boolean }[]).map(
    ({ Type, Source, Destination, RW }) => `${Type} ${Type === 'volume' ? '' : Source} ${Destination} ${RW}`,
  )
  t.strictSame(mounts.sort(), [
    'bind /tmp /host false',
    `bind ${join(engine.dir, 'swarmd.sock')} /var/run/docker.sock true`,
    'tmpfs  /scratch true',
    'volume  /data true',
  ])
  t.match(JSON.parse(await engine.docker('volume', 'inspect', 'vol-web')), [{ Labels: { a: 'b' } }])
  await executor.remove(container, never)
})

t.test('secrets and configs are files in memory with the owner and mode that were asked for', async (t) => {
  const task = taskOf(
    shell(
      'cd /run/secrets; stat -c "%n %u:%g %a" * /etc/app.conf /plain; cat password /etc/app.conf /plain; touch password 2>/dev/null || echo read-only',
      {
        Env: ['COLOUR=blue'],
        Secrets: [
          { SecretID: 's1', SecretName: 'password', File: { Name: 'password', UID: '1000', GID: '1001', Mode: 0o440 } },
        ],
        Configs: [
          { ConfigID: 'c1', ConfigName: 'app', File: { Name: '/etc/app.conf', UID: '0', GID: '0', Mode: 0o444 } },
          { ConfigID: 'c2', ConfigName: 'plain', File: { Name: 'plain', Mode: 0o600 } },
        ],
      },
    ),
  )
  const given = {
    secrets: [makeSecret('s1', 'hush\n')],
    configs: [
      makeConfig(
        'c1',
        '{{ env "COLOUR" }} {{ secret "password" | printf "%s" }}{{ if eq .Task.Slot "1" }}first{{ end }}\n',
        'golang',
      ),
      makeConfig('c2', 'as {{it}} is\n'),
    ],
  }
  const directory = join(engine.execRoot, 'task-files', task.id)
  const container = await executor.prepare(makeOrder(task, given), never)
  t.equal(readFileSync(join(directory, '0'), 'utf8'), 'hush\n')
  t.equal(statSync(directory).mode & 0o777, 0o700)
  await executor.remove(container, never)
  t.notOk(existsSync(directory), 'they go with the task')
  const output = await runToEnd(task, given)
  t.strictSame(output.trim().split('\n'), [
    'password 1000:1001 440',
    '/etc/app.conf 0:0 444',
    '/plain 0:0 600',
    'hush',
    'blue hush',
    'first',
    'as {{it}} is',
    'read-only',
  ])
  t.strictSame(readdirSync(join(engine.execRoot, 'task-files')), [])
})

t.test('a host-mode port without a number gets a free one, and it is reported', async (t) => {
  const task = taskOf(
    shell(STEADY),
    {},
    {
      endpoint: {
        spec: {},
        virtualIps: [],
        ports: [
          { Protocol: 'tcp', TargetPort: 80, PublishMode: 'host' },
          { Protocol: 'udp', TargetPort: 53, PublishedPort: 5353, PublishMode: 'host' },
          { Protocol: 'tcp', TargetPort: 81, PublishedPort: 30_001, PublishMode: 'ingress' },
        ],
      },
    },
  )
  const container = await executor.start(await executor.prepare(makeOrder(task), never))
  const ports = [...container.ports].sort((a, b) => a.TargetPort! - b.TargetPort!)
  t.match(ports, [
    { Protocol: 'udp', TargetPort: 53, PublishedPort: 5353, PublishMode: 'host' },
    { Protocol: 'tcp', TargetPort: 80, PublishMode: 'host' },
  ])
  t.equal(ports.length, 2, 'ingress ports are not the container engine’s')
  t.ok(ports[1]!.PublishedPort! > 1024)
  const clash = taskOf(shell(STEADY), {}, { endpoint: task.endpoint })
  const refused = await executor.prepare(makeOrder(clash), never)
  t.match(await failure(executor.start(refused)), /^starting container failed: .*port is already allocated/)
  await executor.remove(container, never)
  await executor.remove(refused, never)
})

t.test(
  "the engine's own networks work by name, and a task on no network of the cluster stands on the bridge",
  async (t) => {
    for (const name of ['host', 'none', 'bridge']) {
      const container = await executor.prepare(
        makeOrder(taskOf(shell(STEADY), { Networks: [{ Target: name }] })),
        never,
      )
      t.match(await inspected(container), { HostConfig: { NetworkMode: name } })
      await executor.remove(container, never)
    }
    const container = await executor.prepare(makeOrder(taskOf(shell(STEADY))), never)
    t.match(await inspected(container), { HostConfig: { NetworkMode: 'default' } })
    await executor.remove(container, never)
  },
)

t.test('what the engine or the spec cannot do fails the task with the reason', async (t) => {
  const message = (spec: ContainerSpec) => failure(executor.prepare(makeOrder(taskOf(spec)), never))
  t.equal(
    await message(shell(STEADY, { Healthcheck: { Test: ['CMD', 'true'], StartInterval: 1e9 } })),
    'Healthcheck.StartInterval needs a Docker Engine with API 1.44 or later: this node’s has 1.41'.replace('’', "'"),
  )
  t.match(
    await message(shell(STEADY, { Mounts: [{ Type: 'bind', Source: '/no/such', Target: '/x' }] })),
    /bind source path does not exist: \/no\/such/,
  )
  t.match(await message(shell(STEADY, { Env: ['A={{.Service.Nmae}}'] })), /^expanding env failed: template: .*Nmae/)
  t.match(
    await message(shell(STEADY, { Hostname: '{{.Task.Slot' })),
    /^expanding hostname failed: template: .*unclosed/,
  )
  t.equal(await message({}), 'dockerexec: image required')
  const onOverlay = taskOf(
    shell(STEADY),
    {},
    { attachments: [{ networkId: 'n', addresses: ['10.0.1.2/24'], aliases: [] }] },
  )
  t.match(await failure(executor.prepare(makeOrder(onOverlay), never)), /this node has no data plane/)
})

t.test(
  'a container whose maker did not come to connect it is made anew, and removed where nobody makes it',
  async (t) => {
    const task = bench.task('steady')
    const labels = Object.entries({
      'com.docker.swarm.task.id': task.id,
      'com.docker.swarm.node.id': NODE_ID,
      'io.swarmctl.networks': '2',
    }).flatMap(([key, value]) => ['--label', `${key}=${value}`])
    const leave = async () =>
      (await engine.docker('create', '--name', `web.1.${task.id}`, ...labels, BOX_IMAGE, 'true')).trim()
    const left = await leave()
    const made = await executor.prepare(makeOrder(task), never)
    t.not(made.containerId, left)
    t.equal((await executor.start(made)).state, 'running')
    await executor.remove(made, never)
    const again = await leave()
    const abort = new AbortController()
    let listed: readonly ObservedContainer[] | undefined
    const onList = (containers: readonly ObservedContainer[]) => {
      listed = containers
    }
    const watch = executor.watch({ onList, onChange: () => {}, onGone: () => {}, onLost: () => {} }, abort.signal)
    await until(() => listed !== undefined, 'the list')
    abort.abort()
    await watch
    t.notOk(listed?.some(({ containerId }) => containerId === again))
    t.match(await failure(engine.docker('inspect', again)), /No such (object|container)/i)
  },
)

t.test('an image by id or by a digest that is present is not pulled', async (t) => {
  const id = (await engine.docker('image', 'inspect', '-f', '{{.Id}}', BOX_IMAGE)).trim()
  t.equal(await runToEnd(taskOf(shell('echo by id', { Image: id }))), 'by id\n')
})

t.test('containers of another node on the same engine are not seen', async (t) => {
  const other = new DockerExecutor({
    nodeId: 'node2',
    engine: engine.socket,
    execRoot: engine.execRoot,
    clock,
    log: silentLog,
  })
  const container = await executor.prepare(makeOrder(bench.task('steady')), never)
  const abort = new AbortController()
  let listed: readonly ObservedContainer[] | undefined
  const onList = (containers: readonly ObservedContainer[]) => {
    listed = containers
  }
  const watch = other.watch({ onList, onChange: () => {}, onGone: () => {}, onLost: () => {} }, abort.signal)
  await until(() => listed !== undefined, 'the list')
  t.strictSame(listed, [])
  abort.abort()
  await watch
  await executor.remove(container, never)
})

t.test('the engine describes the node', async (t) => {
  const description = await executor.describe()
  t.match(description, { Platform: { OS: 'linux', Architecture: /./ }, Engine: { EngineVersion: /^\d+\./ } })
  t.ok((description.Resources?.NanoCPUs ?? 0) >= 1e9)
  t.ok((description.Resources?.MemoryBytes ?? 0) > 1e8)
  t.ok(description.Engine?.Plugins?.some(({ Type, Name }) => Type === 'Network' && Name === 'bridge'))
})
