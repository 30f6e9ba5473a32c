// Bad input, on real processes: each mistake gets a message that says what to do and an exit code that is not 0, and
// changes nothing. n1 is a cluster of one manager, n2 belongs to none, n3 is another cluster.

import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { callApi } from '../../lab/engine-api.ts'
import { type LabHost, swarmdProgram } from '../../lab/lab-host.ts'
import { readState } from '../../lab/state.ts'
import { bareLab } from './support/fresh-cluster.ts'
import { waitFor } from './support/wait-for.ts'

const WAIT_MS = 120_000
const lab = await bareLab(t)
const [n1, n2, n3] = [lab.host('n1'), lab.host('n2'), lab.host('n3')]
const folder = mkdtempSync(join(tmpdir(), 'swarmctl-e2e-bad-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
/** The build under test: a lab may run another than dist/. */
const program = readState(lab.dir)?.hosts[0]?.swarmd?.program ?? swarmdProgram

const succeed = async (host: LabHost, ...args: string[]): Promise<string> => {
  const { code, stdout, stderr } = await host.swarmctl(args)
  if (code !== 0) throw new Error(`${host.name}: swarmctl ${args.join(' ')}: ${code} ${stderr}`)
  return stdout.trim()
}
await succeed(n1, 'swarm', 'init', '--advertise-addr', n1.address)
await succeed(n3, 'swarm', 'init', '--advertise-addr', n3.address)
const token = await succeed(n1, 'swarm', 'join-token', '-q', 'worker')
const otherToken = await succeed(n3, 'swarm', 'join-token', '-q', 'worker')
const create = ['service', 'create', '-d', '--no-resolve-image']
await succeed(n1, ...create, '--name', 'bad-web', '--publish', 'mode=host,published=7001,target=80', 'busybox')
await succeed(n1, 'secret', 'create', 'bad-secret', '/etc/hostname')
await succeed(n1, 'config', 'create', 'bad-config', '/etc/hostname')

/** All that a mistake could have changed: the cluster's objects with their versions, and what lies on the machines' disks. */
async function everything(): Promise<unknown> {
  const get = async (path: string): Promise<unknown> =>
    JSON.parse((await callApi(n1.paths.swarmdSocket, { path })).body) as unknown
  const objects: Record<string, unknown> = {}
  for (const kind of ['services', 'secrets', 'configs', 'nodes']) {
    const list = (await get(`/${kind}`)) as readonly Readonly<Record<string, unknown>>[]
    objects[kind] = list.map(({ ID, Version, Spec }) => ({ ID, Version, Spec }))
  }
  const disks = lab.hosts.map(({ paths }) => readdirSync(paths.swarmdData).toSorted())
  const states = await Promise.all(lab.hosts.map((host) => succeed(host, 'info', '-f', '{{.Swarm.LocalNodeState}}')))
  return { objects, swarm: await get('/swarm'), disks, states }
}

interface Mistake {
  readonly on: LabHost
  readonly says: string | RegExp
  readonly code?: number
}

async function refused(
  test: Pick<typeof t, 'match'>,
  { on, says, code = 1 }: Mistake,
  ...args: string[]
): Promise<void> {
  const result = await on.swarmctl(args)
  test.match({ code: result.code, stderr: result.stderr }, { code, stderr: says }, `swarmctl ${args.join(' ')}`)
}

t.test('joins', async (t) => {
  await succeed(n1, 'service', 'ls') // settled: the service's task no longer changes its node
  const before = await everything()
  const join = (secret: string, address: string): string[] => ['swarm', 'join', '--token', secret, `${address}:2377`]
  await refused(t, { on: n2, says: 'invalid join token' }, ...join('SWMTKN-1-abc', n1.address))
  await refused(
    t,
    { on: n2, says: 'A valid join token is necessary to join this cluster' },
    ...join(`${token.slice(0, -5)}${token.endsWith('00000') ? '11111' : '00000'}`, n1.address),
  )
  await refused(
    t,
    {
      on: n2,
      says: /remote CA does not match fingerprint.*"docker swarm join-token" on a manager shows the valid one/,
    },
    ...join(otherToken, n1.address),
  )
  await refused(
    t,
    { on: n2, says: /could not reach a manager of the swarm: \S+:2377 refuses connections\. Check the address.*port/ },
    ...join(token, n2.address),
  )
  await refused(
    t,
    { on: n2, says: /listen tcp 10\.255\.255\.1:2377: bind: cannot assign requested address/ },
    'swarm',
    'init',
    '--listen-addr',
    '10.255.255.1:2377',
  )
  const already =
    'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.'
  await refused(t, { on: n1, says: already }, ...join(otherToken, n3.address))
  await refused(t, { on: n1, says: already }, 'swarm', 'init')
  t.strictSame(await everything(), before, 'nothing has changed')
})

t.test('a control port that is in use', async (t) => {
  const before = await everything()
  const script = 'require("node:net").createServer().listen(2377)'
  const held = await n2.exec(['sh', '-c', `'${process.execPath}' -e '${script}' >/dev/null 2>&1 & echo $!`])
  t.teardown(() => n2.exec(['kill', held.stdout.trim()]))
  await waitFor(
    'something listens',
    async () => (await n2.exec(['sh', '-c', 'grep -q ":0949 .* 0A " /proc/net/tcp /proc/net/tcp6'])).code === 0,
    WAIT_MS,
  )
  await refused(
    t,
    { on: n2, says: /listen tcp 0\.0\.0\.0:2377: bind: address already in use: .*choose another/ },
    'swarm',
    'init',
  )
  t.strictSame(await everything(), before, 'nothing has changed')
})

t.test('leaving', async (t) => {
  const before = await everything()
  const last =
    /Removing the last manager erases all current state of the swarm\. Use `--force` to ignore this message\./
  await refused(t, { on: n1, says: last }, 'swarm', 'leave')
  await refused(t, { on: n2, says: 'This node is not part of a swarm' }, 'swarm', 'leave')
  t.strictSame(await everything(), before, 'nothing has changed')
})

t.test('unknown values and names that clash', async (t) => {
  const before = await everything()
  const on = n1
  const cases: readonly (readonly [string | RegExp, number, ...string[]])[] = [
    ['unknown flag: --nonsense', 125, 'service', 'ls', '--nonsense'],
    [/invalid availability|invalid Availability: "maybe"/, 1, 'node', 'update', '--availability', 'maybe', 'n1'],
    [/invalid Role: "king"/, 1, 'node', 'update', '--role', 'king', 'n1'],
    ['Unknown mode: weird, only replicated and global supported', 1, ...create, '--mode', 'weird', 'busybox'],
    ['invalid RestartCondition: "never"', 1, ...create, '--restart-condition', 'never', 'busybox'],
    [/invalid argument "lots" for "--limit-memory" flag/, 125, ...create, '--limit-memory', 'lots', 'busybox'],
    ['constraint expected one operator from ==, !=', 1, ...create, '--constraint', 'zone', 'busybox'],
    ['name must be valid as a DNS name component', 1, ...create, '--name', 'a b', 'busybox'],
    ['secret not found: absent', 1, ...create, '--secret', 'absent', 'busybox'],
    ['config not found: absent', 1, ...create, '--config', 'absent', 'busybox'],
    [
      /name conflicts with an existing object: service bad-web already exists/,
      1,
      ...create,
      '--name',
      'bad-web',
      'busybox',
    ],
    [/secret bad-secret already exists/, 1, 'secret', 'create', 'bad-secret', '/etc/hostname'],
    [/config bad-config already exists/, 1, 'config', 'create', 'bad-config', '/etc/hostname'],
    [/service absent not found|no such service: absent/, 1, 'service', 'update', '-d', '--image', 'busybox', 'absent'],
    [/node absent not found/i, 1, 'node', 'inspect', 'absent'],
  ]
  for (const [says, code, ...args] of cases) await refused(t, { on, says, code }, ...args)
  t.strictSame(await everything(), before, 'nothing has changed')
})

t.test('a version that another update has made stale', async (t) => {
  const path = '/services/bad-web'
  const { body } = await callApi(n1.paths.swarmdSocket, { path })
  const { Version, Spec } = JSON.parse(body) as { Version: { Index: number }; Spec: object }
  const update = (owner: string) =>
    callApi(n1.paths.swarmdSocket, {
      method: 'POST',
      path: `${path}/update?version=${Version.Index}`,
      body: { ...Spec, Labels: { owner } },
    })
  t.equal((await update('first')).status, 200)
  const before = await everything()
  t.match(await update('second'), { status: 500, body: /update out of sequence/ })
  t.strictSame(await everything(), before, 'nothing has changed')
})

t.test('compose files that cannot be read', async (t) => {
  const before = await everything()
  const file = join(folder, 'stack.yml')
  const deploy = async (text: string): Promise<{ code: number; stderr: string }> => {
    writeFileSync(file, text)
    return n1.swarmctl(['stack', 'deploy', '-c', file, 'bad'])
  }
  t.match(await n1.swarmctl(['stack', 'deploy', '-c', join(folder, 'absent.yml'), 'bad']), {
    code: 1,
    stderr: /absent\.yml: no such file or directory/,
  })
  t.match(await deploy('services:\n  web: {image: busybox\n'), { code: 1, stderr: /stack\.yml:\d:\d+: yaml: / }, 'YAML')
  t.match(
    await deploy('services:\n  web:\n    image: busybox\n    replicas: 3\n'),
    { code: 1, stderr: /replicas/ },
    'unknown',
  )
  t.match(await deploy('services:\n  web:\n    imag: busybox\n'), { code: 1, stderr: /imag/ }, 'misspelt')
  t.match(
    await deploy('services:\n  web:\n    image: busybox\n    secrets: [nowhere]\n'),
    { code: 1, stderr: /nowhere/ },
    'an undefined secret',
  )
  t.strictSame(await everything(), before, 'nothing has changed')
})

t.test('a host port that is in use: the service waits and says why', async (t) => {
  const publish = 'mode=host,published=7001,target=80'
  const name = 'bad-port'
  await succeed(n1, ...create, '--name', name, '--publish', publish, 'busybox')
  const shown = await waitFor(
    'the reason is shown',
    async () => {
      const line = await succeed(n1, 'service', 'ps', '--no-trunc', '--format', '{{.CurrentState}} {{.Error}}', name)
      return line.includes('no suitable node') && line
    },
    WAIT_MS,
    n1.paths.swarmdSocket,
  )
  t.match(shown, /^Pending .*"no suitable node \(host-mode port already in use on 1 node\)"/)
  await succeed(n1, 'service', 'rm', name)
})

t.test('swarmd itself', async (t) => {
  const before = await everything()
  const swarmd = (...args: string[]) => n2.exec(['timeout', '30', process.execPath, program, ...args])
  const engine = `--engine=unix://${n2.paths.engineSocket}`
  const own = [`--host=unix://${folder}/second.sock`, '--exec-root=/run/second']
  t.match(await swarmd(engine, ...own, `--data-root=${n2.paths.swarmdData}`), {
    code: 1,
    stderr: /^swarmd: \S+ is in use by swarmd with process id \d+: stop it first, or give this one its own --data-root/,
  })
  t.match(
    await swarmd(
      engine,
      `--host=unix://${n2.paths.swarmdSocket}`,
      '--exec-root=/run/second',
      `--data-root=${folder}/d`,
    ),
    { code: 1, stderr: /^swarmd: cannot listen on unix:\/\/\S+: another process serves it/ },
  )
  t.match(await swarmd('--nope'), { code: 125, stderr: /^swarmd: Unknown argument: nope\nRun "swarmd --help"/ })
  t.match(await swarmd('--log-level=loud'), { code: 125, stderr: /log-level.*"loud".*"debug"/s })
  t.match(await swarmd('--engine=ftp://x'), {
    code: 125,
    stderr: /invalid value "ftp:\/\/x" for flag --engine: expected/,
  })
  t.strictSame(await everything(), before, 'nothing has changed')
})

t.test('no Docker Engine', async (t) => {
  const socket = join(folder, 'lonely.sock')
  const data = join(folder, 'lonely')
  const flags = [
    '--engine=unix:///absent.sock',
    `--host=unix://${socket}`,
    `--data-root=${data}`,
    '--exec-root=/run/lonely',
  ]
  const running = n2.exec(['timeout', '60', process.execPath, program, ...flags])
  const env = { ...n2.clientEnv('swarmd'), DOCKER_HOST: `unix://${socket}` }
  await waitFor('swarmd serves its socket', async () => existsSync(socket), WAIT_MS)
  const says =
    /Cannot connect to the Docker daemon at unix:\/\/\/absent\.sock.*start it, or name another with swarmd's flag --engine/
  for (const args of [
    ['swarm', 'init'],
    ['swarm', 'join', '--token', token, `${n1.address}:2377`],
  ]) {
    t.match(await n2.swarmctl(args, { env }), { code: 1, stderr: says }, args.join(' '))
  }
  t.match(await n2.docker(['ps'], { env }), { code: 1, stderr: says })
  t.match(await n2.docker(['run', 'busybox'], { env }), { code: 125, stderr: says })
  t.match(await n2.docker(['service', 'ls'], { env }), { code: 1, stderr: /This node is not a swarm manager/ })
  t.strictSame(readdirSync(data), [], 'nothing was made')
  await n2.exec(['sh', '-c', 'kill $(cat /run/lonely/swarmd.pid)'])
  t.equal((await running).code, 0)
  t.strictSame([readdirSync(data), existsSync(socket)], [[], false], 'a clean end')
})

t.test('an engine whose own Swarm mode is on', async (t) => {
  const inEngine = await n2.docker(['swarm', 'init', '--advertise-addr', n2.address], { to: 'engine' })
  t.equal(inEngine.code, 0, inEngine.stderr)
  t.teardown(() => n2.docker(['swarm', 'leave', '--force'], { to: 'engine' }))
  const says = new RegExp(`part of a swarm of its own.*docker -H unix://${n2.paths.engineSocket} swarm leave --force`)
  await refused(t, { on: n2, says }, 'swarm', 'init')
  await refused(t, { on: n2, says }, 'swarm', 'join', '--token', token, `${n1.address}:2377`)
  t.strictSame(readdirSync(n2.paths.swarmdData), [])
})
