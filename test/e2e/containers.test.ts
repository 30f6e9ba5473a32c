// One machine of the cluster is every machine: containers of all nodes through the docker client and swarmctl at any manager.

import { randomBytes } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { type LabHost, swarmctlProgram } from '../../lab/lab-host.ts'
import { projectRoot } from '../../lab/layout.ts'
import { run } from '../../lab/run.ts'
import { sharedCluster } from './support/cluster.ts'
import { waitFor } from './support/wait-for.ts'

const CLUSTER_SOCKET = 'unix:///run/swarmd/cluster.sock'
const DEADLINE_MS = 60_000
const terminalProgram = join(projectRoot, 'test/e2e/support/terminal.py')
const FILE_BYTES = 8 * 1024 * 1024

const cluster = await sharedCluster()
const leader = await cluster.leader()
const follower = cluster.lab.managers.find((host) => host !== leader)
if (!follower) throw new Error('a lab of two managers at least')
const hosts = [leader, follower]
t.teardown(() => cluster.reset('seen-'))

/** The docker client at the socket that shows the whole cluster. */
const docker = (host: LabHost, args: readonly string[], input = '') =>
  host.exec(['docker', '-H', CLUSTER_SOCKET, ...args], { input, timeoutMs: DEADLINE_MS })

await cluster.docker(leader, 'service', 'create', '-d', '--name', 'seen-all', '--mode', 'global', 'hello:1')
await cluster.docker(leader, 'service', 'create', '-d', '--name', 'seen-one', '--replicas', '2', 'hello:1')
await Promise.all(
  cluster.lab.hosts.map((host) => host.docker(['run', '-d', '--name', 'seen-plain', 'hello:1'], { to: 'engine' })),
)
t.teardown(() =>
  Promise.all(cluster.lab.hosts.map((host) => host.docker(['rm', '-f', 'seen-plain'], { to: 'engine' }))),
)
const listed = async (host: LabHost, ...flags: readonly string[]) => {
  const format = '{{.Label "io.swarmctl.node"}} {{.Names}}'
  const { stdout } = await docker(host, ['ps', ...flags, '--filter', 'name=seen-', '--format', format])
  return stdout
    .trim()
    .split('\n')
    .map((line) => line.split(' ') as [string, string])
}
await waitFor(
  'all tasks run',
  async () =>
    (await listed(leader)).filter(([, name]) => /seen-(?:all|one)\./.test(name)).length >= cluster.lab.hosts.length + 2,
  DEADLINE_MS,
)

t.test(
  'docker ps at any manager shows the containers of all nodes, and at swarmd’s own socket this node’s',
  async (t) => {
    for (const host of hosts) {
      const shown = await listed(host)
      const everywhere = shown.filter(([, name]) => name.startsWith('seen-all.'))
      t.same(everywhere.map(([node]) => node).toSorted(), cluster.lab.hosts.map(({ name }) => name).toSorted())
      const plain = shown.filter(([, name]) => name.endsWith('seen-plain')).map(([, name]) => name)
      const expected = cluster.lab.hosts.map(({ name }) => (name === host.name ? 'seen-plain' : `${name}/seen-plain`))
      t.same(plain.toSorted(), expected.toSorted(), 'what is no task’s is named with its node')
      const here = await cluster.docker(host, 'ps', '--filter', 'name=seen-all', '--format', '{{.Names}}')
      t.equal(here.trim().split('\n').length, 1)
      const rows = await cluster.swarmctl(host, 'ps', '--filter', 'name=seen-all', '--format', '{{.Node}}')
      t.same(rows.trim().split('\n').toSorted(), cluster.lab.hosts.map(({ name }) => name).toSorted())
    }
  },
)

t.test('a task’s container on another node: exec, logs, inspect, top, stats, cp', async (t) => {
  // by a manager that does not lead, which has the leader ask the node
  for (const host of [follower]) {
    const [node = '', name = ''] =
      (await listed(host)).find(([each, what]) => each !== host.name && what.startsWith('seen-all.')) ?? []
    const owner = cluster.lab.host(node)
    const inspected = await docker(host, ['inspect', '-f', '{{.Name}} {{.State.Status}}', name])
    t.equal(inspected.stdout.trim(), `/${name} running`)
    const id = (await owner.docker(['inspect', '-f', '{{.Config.Hostname}}', name], { to: 'engine' })).stdout
    t.equal((await docker(host, ['exec', name, 'hostname'])).stdout, id)
    const failed = await docker(
      host,
      ['exec', '-i', name, 'sh', '-c', 'cat; echo trouble >&2; exit 7'],
      'what was typed\n',
    )
    t.match(failed, { code: 7, stdout: 'what was typed\n', stderr: 'trouble\n' })
    await docker(host, ['exec', name, 'sh', '-c', 'echo for the log > /proc/1/fd/1'])
    t.match((await docker(host, ['logs', name])).stdout, /^for the log$/m)
    t.match((await docker(host, ['top', name])).stdout, /PID/)
    t.match((await docker(host, ['stats', '--no-stream', '--format', '{{.Name}}', name])).stdout, name)
    const folder = t.testdir({})
    const data = randomBytes(FILE_BYTES)
    writeFileSync(join(folder, 'there'), data)
    const copy = (from: string, to: string) => docker(host, ['cp', from, to])
    t.equal((await copy(join(folder, 'there'), `${name}:/tmp/data`)).code, 0)
    t.equal((await copy(`${name}:/tmp/data`, join(folder, 'back'))).code, 0)
    t.ok(readFileSync(join(folder, 'back')).equals(data))
  }
})

t.test('docker events, images, volumes, disk use and info of all nodes at one socket', async (t) => {
  const names = cluster.lab.hosts.map(({ name }) => name).toSorted()
  const nodesOf = (lines: string) => [...new Set(lines.trim().split('\n'))].toSorted()
  const began = String(Math.floor(Date.now() / 1000))
  await Promise.all(cluster.lab.hosts.map((host) => host.docker(['volume', 'create', 'seen-data'], { to: 'engine' })))
  t.teardown(() =>
    Promise.all(cluster.lab.hosts.map((host) => host.docker(['volume', 'rm', 'seen-data'], { to: 'engine' }))),
  )
  const list = () => docker(follower, ['volume', 'ls', '--filter', 'name=seen-', '--format', '{{.Name}}'])
  const volumes = await waitFor(
    'every node answers',
    async () => {
      const answer = await list()
      return nodesOf(answer.stdout).length === names.length ? answer : undefined
    },
    DEADLINE_MS,
  )
  const expected = names.map((name) => (name === follower.name ? 'seen-data' : `${name}/seen-data`))
  t.same(nodesOf(volumes.stdout), expected.toSorted())
  const inspected = await docker(follower, ['volume', 'inspect', '-f', '{{.Name}}', `${leader.name}/seen-data`])
  t.equal(inspected.stdout, 'seen-data\n')
  t.match(await docker(follower, ['volume', 'prune', '-f']), { code: 1, stderr: /concerns one machine.*swarmd\.sock/ })
  for (const name of names) {
    const images = ['image', 'ls', '--filter', `label=io.swarmctl.node=${name}`, '--format', '{{.Repository}}:{{.Tag}}']
    t.match((await docker(follower, images)).stdout, /^hello:1$/m)
  }
  t.equal((await docker(follower, ['image', 'inspect', '-f', '{{index .RepoTags 0}}', 'hello:1'])).code, 0)
  const use = await docker(follower, ['system', 'df', '-v', '--format', '{{json .Volumes}}'])
  for (const name of expected) t.match(use.stdout, `"${name}"`)
  const here = Number((await follower.docker(['info', '-f', '{{.Containers}}'], { to: 'engine' })).stdout)
  t.ok(Number((await docker(follower, ['info', '-f', '{{.Containers}}'])).stdout) > here)
  const filters = ['--filter', 'type=volume', '--filter', 'event=create', '--filter', 'volume=seen-data']
  const format = '{{index .Actor.Attributes "io.swarmctl.node"}}'
  // docker cuts what it is given to whole seconds
  const until = String(Math.floor(Date.now() / 1000) + 1)
  const told = await docker(follower, ['events', '--since', began, '--until', until, ...filters, '--format', format])
  t.same(nodesOf(told.stdout), names)
})

t.test('swarmctl exec finds a task by service and slot, and ends as the command does', async (t) => {
  for (const host of [follower]) {
    const execute = (words: readonly string[], input = '') => host.swarmctl(['exec', ...words], { input })
    t.match(await execute(['seen-one.2', '--', 'sh', '-c', 'echo out; echo err >&2; exit 3']), {
      code: 3,
      stdout: 'out\n',
      stderr: 'err\n',
    })
    t.match(await execute(['-i', '-e', 'A=1', 'seen-one.1', 'sh', '-c', 'cat; echo $A'], 'typed\n'), {
      code: 0,
      stdout: 'typed\n1\n',
    })
    t.match(await execute(['seen-one', 'true']), {
      code: 1,
      stderr: /seen-one fits more than one task: seen-one\.\d\./,
    })
    t.match(await execute(['seen-one.9', 'true']), { code: 1, stderr: /no task of seen-one\.9 is running/ })
    t.match(await execute(['seen-none', 'true']), { code: 1, stderr: /No such container: seen-none/ })
    t.match(await execute(['seen-plain', 'true']), {
      code: 1,
      stderr: /container seen-plain is on more than one node: say which/,
    })
    const other = cluster.lab.hosts.find((each) => each !== host)!
    t.match(await execute([`${other.name}/seen-plain`, '--', 'hostname']), { code: 0, stdout: /^[0-9a-f]{12}\n$/ })
    t.match(await execute(['seen-one.1', '--', 'no-such-program']), { code: 126, stdout: /no-such-program/ })
    t.match(await cluster.swarmctl(host, 'logs', 'seen-one'), '')
  }
})

t.test(
  'on a terminal: its size and each change of it, keys as they are, the exit code; and the terminal is left as it was',
  async (t) => {
    const other = cluster.lab.hosts.find((each) => each !== follower)!
    const [, name = ''] =
      (await listed(follower)).find(([node, what]) => node === other.name && /^seen-all/.test(what)) ?? []
    const onTerminal = async (steps: readonly object[], ...words: readonly string[]) => {
      const argv = ['python3', terminalProgram, JSON.stringify(steps), process.execPath, swarmctlProgram, ...words]
      const { stdout, stderr } = await run(argv, { env: follower.clientEnv('swarmd'), timeoutMs: 2 * DEADLINE_MS })
      if (stdout === '') throw new Error(stderr)
      return JSON.parse(stdout) as { readonly output: string }
    }
    const size = { type: 'stty size\n', again: true }
    const interrupt = { type: '\x03', again: true }
    const session = [
      { size: [31, 97] },
      { ...size, until: '31 97' },
      { size: [40, 121] },
      { ...size, until: '40 121' },
      // the shell gives its terminal to what it starts a moment after it has shown the line
      { type: "sh -c 'echo be''gun; sleep 60'\n", until: 'begun' },
      { ...interrupt, until: '\\^C' },
      { type: 'echo code=$?\n', until: 'code=130' },
      { type: 'stty -opost; printf "one\\ntwo"; stty opost\n', until: 'one\ntwo' },
      { type: 'exit 7\n', until: 'exit 7' },
    ]
    const task = ['exec', '-it', name, 'sh']
    const here = { type: 'echo here\n', until: 'here\r\nhere' }
    const [used, killed, watched] = await Promise.all([
      onTerminal(session, ...task),
      onTerminal([here, { kill: 15 }], ...task),
      onTerminal(
        [
          { type: '', until: 'there' },
          { ...interrupt, until: '\\^C' },
        ],
        'exec',
        '-t',
        name,
        'sh',
        '-c',
        'echo there; cat',
      ),
    ])
    t.match(used, { failed: null, code: 7, restored: true, modes: { echo: false, lines: false, signals: false } })
    t.match(killed, { failed: null, code: -15, restored: true }, 'also when swarmctl is killed')
    t.match(watched, { failed: null, code: -2, restored: true }, 'without -i Ctrl-C is swarmctl’s')
    const absent = await onTerminal([], 'exec', '-it', 'seen-none', 'sh')
    t.match(absent, { code: 1, output: /No such container: seen-none/, restored: true })
  },
)

t.test('at the leader as well', async (t) => {
  t.match(await leader.swarmctl(['exec', 'seen-one.2', '--', 'sh', '-c', 'exit 3']), { code: 3 })
  const powers = async (...flags: readonly string[]) =>
    (await leader.swarmctl(['exec', ...flags, 'seen-one.2', '--', 'grep', 'CapEff', '/proc/self/status'])).stdout
  t.match(await powers(), /^CapEff:\s+[0-9a-f]{16}\n$/)
  t.not(await powers('--privileged'), await powers())
  t.match(await leader.swarmctl(['exec', '-i', 'seen-one.1', 'cat'], { input: 'typed\n' }), {
    code: 0,
    stdout: 'typed\n',
  })
})

t.test('a container that is killed from another node is replaced as any that dies', async (t) => {
  const [, name = ''] =
    (await listed(follower)).find(([node, what]) => node !== follower.name && what.startsWith('seen-all.')) ?? []
  t.equal((await docker(follower, ['kill', name])).code, 0)
  t.equal((await docker(follower, ['wait', name])).stdout, '137\n')
  await waitFor(
    'another task takes its place',
    async () => {
      const all = (await listed(follower)).filter(([, each]) => each.startsWith('seen-all.'))
      return all.length === cluster.lab.hosts.length && !all.some(([, each]) => each === name)
    },
    DEADLINE_MS,
  )
  t.pass()
})

t.test('an image of one machine comes to the nodes that lack it, without what they have', async (t) => {
  // a second layer over one that every engine has
  const made = await leader.docker(
    ['run', '--name', 'seen-made', 'hello:1', 'sh', '-c', 'head -c 300000 /dev/urandom > /new'],
    {
      to: 'engine',
    },
  )
  t.equal(made.code, 0, made.stderr)
  await leader.docker(['commit', 'seen-made', 'seen-pushed:7'], { to: 'engine' })
  await leader.docker(['rm', 'seen-made'], { to: 'engine' })
  t.teardown(() =>
    Promise.all(cluster.lab.hosts.map((host) => host.docker(['rmi', 'seen-pushed:7'], { to: 'engine' }))),
  )
  const toOne = await cluster.swarmctl(leader, 'image', 'push', '--node', follower.name, 'seen-pushed:7')
  t.match(toOne, /^seen-pushed:7: \S+: sending 1 of \d+ layers\nseen-pushed:7: \S+: loaded \(1 of .*\)\n$/)
  const pushed = await cluster.swarmctl(leader, 'image', 'push', 'seen-pushed:7')
  t.match(pushed, new RegExp(`${follower.name}: already there`))
  for (const { name } of cluster.lab.hosts.filter((host) => host !== leader && host !== follower)) {
    t.match(pushed, new RegExp(`^seen-pushed:7: ${name}: loaded \\(1 of \\d+ layers, 3\\d\\d(?:\\.\\d)?KiB\\)$`, 'm'))
  }
  const there = await follower.docker(['run', '--rm', 'seen-pushed:7', 'wc', '-c', '/new'], { to: 'engine' })
  t.match(there.stdout, /^300000 /)
  const unknown = await leader.swarmctl(['image', 'push', 'seen-nothing:1'])
  t.match(unknown, { code: 1, stderr: /No such image: seen-nothing:1/ })
})
