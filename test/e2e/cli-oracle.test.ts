// For the same state of a real swarm, `swarmctl X` prints the bytes that `docker X` prints.

import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import t, { type Test } from 'tap'
import { run } from '../../src/cli/run.ts'
import { isModern, NEWEST_DOCKER } from '../support/docker-clients.ts'
import { OracleEngine } from './support/oracle-engine.ts'

t.setTimeout(400_000)

// services stop by SIGKILL here: `sleep` as the first process ignores SIGTERM, and each stop would take ten seconds
const MAIN = join(import.meta.dirname, '../../src/cli/main.js')
const TRIES = 40
/** swarmctl prints what docker 28 does. On a machine that has 20.10 alone, what that one says otherwise is not compared. */
const modern = isModern(NEWEST_DOCKER)
const NEWER = /--format json|(?:inspect|rm) .*absent/

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

let engine: OracleEngine

function execute(program: string, words: readonly string[], input = ''): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const environment = { ...process.env, DOCKER_HOST: `unix://${engine.socket}`, DOCKER_CLI_HINTS: 'false' }
    const child = spawn(program, words, { env: environment, stdio: ['pipe', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    child.on('error', reject)
    child.on('close', (code) => resolve({ code: code ?? -1, stdout, stderr }))
    child.stdin.on('error', () => {}) // a program that has ended without reading it
    child.stdin.end(input)
  })
}

const docker = (...words: readonly string[]) => execute(NEWEST_DOCKER, words)
const program = (words: readonly string[], input = '') => execute(process.execPath, [MAIN, ...words], input)

/** In this process: half a second less a command, and ages are read at nearly one moment with docker's. */
async function swarmctl(...words: readonly string[]): Promise<Outcome> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  const text = async (stream: PassThrough) => Buffer.concat(await stream.toArray()).toString()
  const [out, error] = [text(stdout), text(stderr)]
  stdin.end()
  const environment = { ...process.env, DOCKER_HOST: `unix://${engine.socket}` }
  const code = await run(words, environment, { stdin, stdout, stderr })
  stdout.end()
  stderr.end()
  return { code, stdout: await out, stderr: await error }
}

async function must(outcome: Promise<Outcome>): Promise<string> {
  const { code, stdout, stderr } = await outcome
  if (code !== 0) throw new Error(`exit code ${code}: ${stderr}`)
  return stdout.trim()
}

const byText = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0)
const asDocker = (text: string) => text.replaceAll('swarmctl', 'docker')

/** Asks docker before and after: only where the state, and every age in it, stood still do the two have to agree. */
async function compare(
  t: Test,
  words: readonly string[],
  edit: (text: string) => string = (text) => text,
): Promise<void> {
  for (let i = 0; i < TRIES; i++) {
    const before = await docker(...words)
    const actual = await swarmctl(...words)
    const after = await docker(...words)
    if (edit(before.stdout) !== edit(after.stdout) || before.stderr !== after.stderr) continue
    t.equal(edit(asDocker(actual.stdout)), edit(before.stdout), words.join(' '))
    t.equal(asDocker(actual.stderr), before.stderr, `errors of ${words.join(' ')}`)
    t.equal(actual.code, before.code, `exit code of ${words.join(' ')}`)
    return
  }
  t.fail(`${words.join(' ')}: the state never stood still`)
}

t.before(async () => {
  engine = await OracleEngine.start()
})
t.teardown(() => engine.stop())

t.test('swarm init prints what docker prints, naming swarmctl in its commands', async (t) => {
  const outcome = await program(['swarm', 'init', '--advertise-addr', '10.66.1.1'])
  t.equal(outcome.code, 0, outcome.stderr)
  t.match(
    outcome.stdout,
    /^Swarm initialized: current node \([a-z0-9]{25}\) is now a manager\.\n\nTo add a worker to this swarm, run the following command:\n\n {4}swarmctl swarm join --token SWMTKN-1-\S+ 10\.66\.1\.1:2377\n\nTo add a manager to this swarm, run 'swarmctl swarm join-token manager' and follow the instructions\.\n$/,
  )
  const again = await swarmctl('swarm', 'init')
  t.equal(again.code, 1)
  t.equal(again.stderr, (await docker('swarm', 'init')).stderr)
})

t.test('secrets, configs, networks and services are made by swarmctl', async (t) => {
  const make = (...words: string[]) => must(swarmctl(...words))
  t.match(await must(program(['secret', 'create', '-l', 'a=b', 's1', '-'], 'hidden')), /^[a-z0-9]{25}$/)
  await must(program(['config', 'create', '-l', 'x', 'c1', '-'], 'c<>&\n'))
  await make('network', 'create', '-d', 'overlay', '--attachable', '--label', 'n=1', 'net1')
  const rich = await swarmctl(
    ...[
      'service',
      'create',
      '-d',
      '--name',
      'web2',
      '--stop-signal',
      'SIGKILL',
      '--replicas',
      '2',
      '--secret',
      's1',
      '--network',
      'net1',
    ],
    ...['--config', 'source=c1,target=/etc/c,mode=0400', '-e', 'A=1', '-e', 'B=<x>', '--limit-cpu', '.5'],
    ...['--limit-memory', '64m', '--limit-pids', '20', '--reserve-memory', '4m', '-l', 'lab=el', '-p', '8080:80'],
    ...['-p', '8081:80/udp', '--mount', 'type=volume,src=data,dst=/d', '--health-cmd', 'true', '--update-delay', '3s'],
    ...['--rollback-monitor', '4s', '--constraint', 'node.role==manager', '--log-driver', 'json-file'],
    ...['--log-opt', 'max-size=1m', '--sysctl', 'net.core.somaxconn=10', '--ulimit', 'nofile=100:200'],
    ...['--cap-add', 'net_admin', '--user', '0', '--workdir', '/', '--container-label', 'z=1', '--host', 'a:1.2.3.4'],
    ...['busybox', 'sh', '-c', 'echo started; sleep 1000'],
  )
  t.equal(rich.code, 0, rich.stderr)
  t.match(rich.stderr, /^image busybox:latest could not be accessed on a registry to record\nits digest\./)
  await make(
    'service',
    'create',
    '-d',
    '--no-resolve-image',
    '--name',
    'web10',
    '--stop-signal',
    'SIGKILL',
    '--mode',
    'global',
    'busybox',
    'sleep',
    '1000',
  )
  await make(
    'service',
    'create',
    '-d',
    '--no-resolve-image',
    '--name',
    'pend',
    '--constraint',
    'node.role==worker',
    'busybox',
    'true',
  )
})

t.test('a service that converges shows it in plain lines in a pipe', async (t) => {
  const words = [
    'service',
    'create',
    '--no-resolve-image',
    '--name',
    'live',
    '--stop-signal',
    'SIGKILL',
    '--update-monitor',
    '1s',
    'busybox',
    'sleep',
    '1000',
  ]
  const outcome = await swarmctl(...words)
  t.equal(outcome.code, 0, outcome.stderr)
  const [id = '', ...lines] = outcome.stdout.trimEnd().split('\n')
  t.equal(lines[0], 'overall progress: 0 out of 1 tasks')
  t.ok(lines.includes('overall progress: 1 out of 1 tasks'))
  t.equal(lines.at(-1), `verify: Service ${id} converged`)
  t.equal(new Set(lines).size, lines.length, 'no line twice')
})

t.test('a job is waited for until it is complete', async (t) => {
  const outcome = await swarmctl(
    'service',
    'create',
    '--no-resolve-image',
    '--name',
    'job',
    '--mode',
    'replicated-job',
    '--replicas',
    '2',
    'busybox',
    'true',
  )
  t.equal(outcome.code, 0, outcome.stderr)
  t.match(outcome.stdout, /\njob progress: 2 out of 2 complete\n[\s\S]*job complete\n$/)
})

t.test('an update that fails and is paused ends with its reason and code 1', async (t) => {
  const words = [
    'service',
    'update',
    '--args',
    'false',
    '--update-failure-action',
    'pause',
    // a failure counts when it happens, however slow the machine: the period only has to be long enough
    '--update-monitor',
    '60s',
    '--restart-condition',
    'none',
    'live',
  ]
  const outcome = await swarmctl(...words)
  t.equal(outcome.code, 1)
  t.match(
    outcome.stderr,
    /^service update paused: update paused due to failure or early termination of task [a-z0-9]{25}\n$/,
  )
})

t.test(
  'an update that is rolled back ends with its reason and code 1; a rollback that was asked for with 0',
  async (t) => {
    await must(
      docker(
        'service',
        'create',
        '-q',
        '--no-resolve-image',
        '--name',
        'back',
        '--update-monitor',
        '1s',
        '--stop-signal',
        'SIGKILL',
        '--rollback-monitor',
        '1s',
        'busybox',
        'sleep',
        '1000',
      ),
    )
    const words = [
      '--update-failure-action',
      'rollback',
      '--update-monitor',
      '60s',
      '--restart-condition',
      'none',
      'back',
    ]
    const outcome = await swarmctl('service', 'update', '--args', 'false', ...words)
    t.equal(outcome.code, 1)
    t.match(outcome.stderr, /^service update rolled back: ./)
    t.match(outcome.stdout, /\nrollback: rollback completed\n$/)
    // waited for: while an update runs, a rollback may come out of sequence
    await must(docker('service', 'update', '-q', '--env-add', 'A=1', 'back'))
    const wanted = await swarmctl('service', 'rollback', 'back')
    t.equal(wanted.code, 0, wanted.stderr)
  },
)

t.test('Ctrl-C leaves the service to converge and says how to look after it', async (t) => {
  const environment = { ...process.env, DOCKER_HOST: `unix://${engine.socket}` }
  const words = [
    MAIN,
    'service',
    'create',
    '--no-resolve-image',
    '--name',
    'never',
    '--constraint',
    'node.role==worker',
    'busybox',
  ]
  const child = spawn(process.execPath, words, { env: environment, stdio: ['ignore', 'pipe', 'inherit'] })
  let stdout = ''
  child.stdout.on('data', (chunk: Buffer) => {
    const first = !stdout.includes('overall progress')
    stdout += chunk.toString()
    // a second one would end it at once
    if (first && stdout.includes('overall progress')) child.kill('SIGINT')
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  t.equal(code, 0)
  t.match(
    stdout,
    /\nOperation continuing in background\.\nUse `swarmctl service ps [a-z0-9]{25}` to check progress\.\n$/,
  )
})

t.test('update, scale, rollback and rm change the service', async (t) => {
  await must(swarmctl('service', 'update', '-d', '--env-add', 'NEW=1', '--publish-rm', '80/udp', 'web2'))
  t.match(
    await must(docker('service', 'inspect', '-f', '{{json .Spec.TaskTemplate.ContainerSpec.Env}}', 'web2')),
    /NEW=1/,
  )
  t.equal(await must(docker('service', 'inspect', '-f', '{{len .Spec.EndpointSpec.Ports}}', 'web2')), '1')
  await must(swarmctl('service', 'rollback', '-d', 'web2'))
  t.notMatch(
    await must(docker('service', 'inspect', '-f', '{{json .Spec.TaskTemplate.ContainerSpec.Env}}', 'web2')),
    /NEW=1/,
  )
  t.equal(await must(swarmctl('service', 'scale', '-d', 'web2=1')), 'web2 scaled to 1')
  t.equal(await must(swarmctl('service', 'rm', 'live')), 'live')
  await must(swarmctl('node', 'update', '--label-add', 'disk=ssd', 'oracle'))
  t.equal(await must(docker('node', 'inspect', '-f', '{{.Spec.Labels.disk}}', 'self')), 'ssd')
  t.equal(await must(swarmctl('swarm', 'update', '--task-history-limit', '3')), 'Swarm updated.')
})

t.test('pages and listings are byte for byte docker’s', async (t) => {
  const lines: readonly (readonly string[])[] = [
    ['node', 'ls'],
    ['node', 'ls', '-q'],
    ['node', 'ls', '--format', 'json'],
    ['node', 'ls', '--filter', 'role=worker'],
    ['node', 'inspect', 'self'],
    ['node', 'inspect', '--pretty', 'self'],
    ['node', 'inspect', 'absent'],
    ['service', 'ls'],
    ['service', 'ls', '-q'],
    ['service', 'ls', '--format', 'json'],
    ['service', 'ls', '--format', 'table {{.Name}}\t{{upper .Mode}}'],
    ['service', 'ls', '-f', 'name=web', '-f', 'mode=global'],
    ['service', 'inspect', 'web2', 'web10', 'absent'],
    ['service', 'inspect', '--format', 'json', 'web2'],
    ['service', 'inspect', '--pretty', 'web10'],
    ['service', 'inspect', '--pretty', 'job', 'pend'],
    ['service', 'ps', '-q', 'web2'],
    ['service', 'ps', 'absent'],
    ['service', 'logs', 'web2'],
    ['service', 'logs', '--raw', 'web2'],
    ['service', 'logs', '--no-task-ids', '--no-resolve', '-t', 'web2'],
    ['service', 'logs', 'absent'],
    ['service', 'rm', 'absent'],
    ['service', 'rollback', '-d', 'pend'],
    ['secret', 'ls', '-q'],
    ['secret', 'inspect', 's1'],
    ['secret', 'inspect', '--pretty', 's1'],
    ['secret', 'rm', 's1'],
    ['config', 'inspect', 'c1'],
    ['config', 'inspect', '--pretty', 'c1'],
    ['network', 'ls'],
    ['network', 'ls', '--no-trunc', '--filter', 'driver=overlay'],
    ['network', 'inspect', 'bridge'],
    ['network', 'inspect', '--format', '{{.IPAM.Config}}', 'net1'],
    ['network', 'rm', 'absent'],
    ['swarm', 'join-token', 'worker'],
    ['swarm', 'join-token', '-q', 'manager'],
    ['swarm', 'ca'],
    ['swarm', 'unlock'],
    ['swarm', 'leave'],
  ]
  // the daemon mixes the logs of a service's tasks as they come
  const sortLines = (text: string) => text.split('\n').sort(byText).join('\n')
  for (const words of lines.filter((each) => modern || !NEWER.test(each.join(' ')))) {
    await compare(t, words, words[1] === 'logs' ? sortLines : undefined)
  }
})

t.test('info and version differ in what the client is', async (t) => {
  // docker walks a Go map of runtimes: their order is chance
  const runtimes = (text: string) => text.replace(/ Runtimes: .*/, (line) => line.split(' ').sort(byText).join(' '))
  if (modern) await compare(t, ['info'], (text) => runtimes(text.slice(text.indexOf('\nServer:'))))
  await compare(t, ['version'], (text) => text.slice(text.indexOf('\nServer:')))
})

t.test('tables that show ages', async (t) => {
  const lines: readonly (readonly string[])[] = [
    ['service', 'ps', 'web2', 'web10', 'job', 'pend'],
    ['service', 'ps', '--no-trunc', 'web2', 'pend'],
    ['service', 'ps', '--no-resolve', 'web2'],
    ['service', 'ps', '--format', '{{.Name}} {{.DesiredState}} {{.CurrentState}} {{.Error}}', 'pend'],
    ['service', 'ps', '-f', 'desired-state=running', '-f', 'node=self', 'web2'],
    ['node', 'ps'],
    ['node', 'ps', '--no-trunc', 'self'],
    ['secret', 'ls'],
    ['config', 'ls'],
    ['service', 'inspect', '--pretty', 'web2'],
  ]
  for (const words of lines) await compare(t, words)
})

t.test('leaving by force ends the swarm', async (t) => {
  t.equal(await must(swarmctl('swarm', 'leave', '--force')), 'Node left the swarm.')
  await compare(t, ['service', 'ls'])
  await compare(t, ['node', 'ps'])
  await compare(t, ['swarm', 'join-token', 'worker'])
})
