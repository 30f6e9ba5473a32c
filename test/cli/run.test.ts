// Command lines from words to exit code: usage, suggestions, completion, addresses. A recorder answers in the daemon's place.

import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { promisify } from 'node:util'
import t from 'tap'
import type { Flag } from '../../src/cli/command.ts'
import { listType, switchType, textType } from '../../src/cli/flags.ts'
import { commandHelp, PROGRAM } from '../../src/cli/help.ts'
import { groups, topCommands } from '../../src/cli/registry.ts'
import { run } from '../../src/cli/run.ts'
import { FlagError, scan } from '../../src/cli/scan.ts'
import { DockerRecorder } from '../e2e/support/docker-recorder.ts'

const MAIN = join(import.meta.dirname, '../../src/cli/main.js')
const folder = mkdtempSync(join(tmpdir(), 'cli-run-'))
const socket = join(folder, 'docker.sock')
const recorder = new DockerRecorder({ ID: 'web', Spec: { Name: 'web' } })
t.before(() => recorder.listen(socket))
t.teardown(async () => {
  await recorder.close()
  rmSync(folder, { recursive: true })
})

async function swarmctl(words: readonly string[], environment: Record<string, string> = {}) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()]
  stdin.end()
  const code = await run(
    words,
    { HOME: folder, DOCKER_HOST: `unix://${socket}`, ...environment },
    { stdin, stdout, stderr },
  )
  const text = (stream: PassThrough) => String(stream.read() ?? '')
  return { code, stdout: text(stdout), stderr: text(stderr) }
}

t.test('help is on stdout when asked for, on stderr when nothing else could be done', async (t) => {
  const asked = await swarmctl(['--help'])
  t.match(asked.stdout, /Usage: {2}swarmctl \[OPTIONS\] COMMAND/)
  t.equal((await swarmctl(['help'])).stdout, asked.stdout)
  t.equal((await swarmctl([])).stderr, asked.stdout)
  t.match((await swarmctl(['service'])).stderr, /Run 'swarmctl service COMMAND --help'/)
  const page = (await swarmctl(['service', 'create', '--help'])).stdout
  t.match(
    page,
    /^Usage: {2}swarmctl service create \[OPTIONS\] IMAGE \[COMMAND\] \[ARG\.\.\.\]\n\nCreate a new service\n/,
  )
  t.equal((await swarmctl(['help', 'service', 'create'])).stdout, page)
  t.ok(page.split('\n').every((line) => line.length <= 80))
  t.match((await swarmctl(['node', 'list', '--help'])).stdout, /Aliases:\n {2}swarmctl node ls, swarmctl node list/)
  t.equal((await swarmctl(['swarm', 'update'])).stdout, (await swarmctl(['swarm', 'update', '--help'])).stdout)
})

t.test('every page has an example, and fits 80 columns', async (t) => {
  const all = [
    ...(await Promise.all(
      groups.map(async (group) => ({ path: [PROGRAM, group.name], commands: await group.load() })),
    )),
    { path: [PROGRAM], commands: await Promise.all(topCommands.map((entry) => entry.load())) },
  ]
  for (const { path, commands } of all) {
    for (const command of commands) {
      const page = commandHelp([...path, command.name].join(' '), command)
      t.match(page, /\n\nExamples:\n {2}/, command.name)
      // the usage, and the one line of a summary, are as long as they are
      t.same(
        page
          .split('\n')
          .slice(3)
          .filter((line) => line.length > 80),
        [],
        command.name,
      )
    }
  }
})

t.test('what is mistyped gets a suggestion', async (t) => {
  const command = await swarmctl(['servcie', 'ls'])
  t.equal(command.code, 1)
  t.match(command.stderr, /unknown command: swarmctl servcie\n\nDid you mean this\?\n\tservice\n/)
  t.match((await swarmctl(['service', 'creat'])).stderr, /Did you mean this\?\n\tcreate\n/)
  const flag = await swarmctl(['service', 'create', '--replica', '3', 'x'])
  t.equal(flag.code, 125)
  t.match(flag.stderr, /^unknown flag: --replica\n\nDid you mean this\?\n\t--replicas\n/)
})

t.test('a command of the engine, or one without its group, is told where to go', async (t) => {
  const engine = await swarmctl(['run', '-it', 'busybox'])
  t.equal(engine.code, 1)
  t.match(
    engine.stderr,
    /^swarmctl: unknown command: swarmctl run\n\nThis is the engine's\. Through swarmd:\n\tdocker -H unix:\/\/\/run\/swarmd\/swarmd\.sock run -it busybox\n/,
  )
  t.match((await swarmctl(['cp', 'a:/b', '.'])).stderr, /Containers of all nodes are at unix:\S+\/cluster\.sock\./)
  t.match((await swarmctl(['deploy'])).stderr, /Did you mean this\?\n\tstack deploy\n/)
  t.match((await swarmctl(['update', 'web'])).stderr, /Did you mean this\?\n\tnode update\n\tservice update\n/)
})

t.test('an unreachable daemon is named, with what to do', async (t) => {
  const { code, stderr } = await swarmctl(['-H', 'unix:///nonexistent.sock', 'node', 'ls'])
  t.equal(code, 1)
  t.match(stderr, /^Cannot connect to the daemon at unix:\/\/\/nonexistent\.sock\. Is swarmd running\?\nStart swarmd/)
})

t.test('the daemon comes from -H, then --context, DOCKER_HOST, DOCKER_CONTEXT, the current context', async (t) => {
  const name = 'other'
  const meta = join(folder, '.docker/contexts/meta', createHash('sha256').update(name).digest('hex'))
  mkdirSync(meta, { recursive: true })
  writeFileSync(
    join(meta, 'meta.json'),
    JSON.stringify({ Name: name, Endpoints: { docker: { Host: 'unix:///from-context.sock' } } }),
  )
  const host = async (words: readonly string[], environment: Record<string, string> = {}) =>
    /daemon at (\S+)\./.exec(
      (await swarmctl([...words, 'node', 'ls'], { DOCKER_HOST: '', ...environment })).stderr,
    )?.[1]
  t.equal(await host(['-H', 'unix:///a.sock'], { DOCKER_CONTEXT: name }), 'unix:///a.sock')
  t.equal(await host(['--context', name], { DOCKER_HOST: 'unix:///b.sock' }), 'unix:///from-context.sock')
  t.equal(await host([], { DOCKER_HOST: 'unix:///b.sock', DOCKER_CONTEXT: name }), 'unix:///b.sock')
  t.equal(await host([], { DOCKER_CONTEXT: name }), 'unix:///from-context.sock')
  writeFileSync(join(folder, '.docker/config.json'), JSON.stringify({ currentContext: name }))
  t.equal(await host([]), 'unix:///from-context.sock')
  rmSync(join(folder, '.docker/config.json'))
  t.match((await swarmctl(['--context', 'absent', 'node', 'ls'])).stderr, /context "absent": context not found/)
  t.match(
    (await swarmctl(['-H', 'x', '--context', name, 'node', 'ls'])).stderr,
    /either specify --host or --context, not both/,
  )
})

t.test('an earlier state is gone back to by force only', async (t) => {
  t.match(await swarmctl(['swarm', 'init', '--from-snapshot', '3']), {
    code: 1,
    stderr: '--from-snapshot is for --force-new-cluster\n',
  })
})

t.test('an old daemon is not asked for what it cannot do', async (t) => {
  const refused = await swarmctl(['service', 'create', '-d', '--oom-score-adj', '5', 'x'], {
    DOCKER_API_VERSION: '1.41',
  })
  t.equal(refused.stderr, '"--oom-score-adj" requires API version 1.46, but the Docker daemon API version is 1.41\n')
  t.equal(refused.code, 1)
})

t.test('flags of an engine to come are refused, and TLS files are read before anything is asked', async (t) => {
  for (const flag of ['--memory-swap=1g', '--memory-swappiness=5']) {
    const { stderr } = await swarmctl(['service', 'create', '-d', '--limit-memory', '1g', flag, 'x'])
    t.match(stderr, `"${flag.split('=')[0]}" requires API version 1.52, but the Docker daemon API version is 1.51`)
    const updated = await swarmctl(['service', 'update', '-d', flag, 'web'])
    t.match(updated.stderr, /requires API version 1\.52/)
  }
  t.same(recorder.takeChanges(), [])
  for (const flags of [
    ['--tlsverify'],
    ['--tls', '--tlscacert', '/absent/ca.pem'],
    ['--tls', '--tlscert', '/absent/cert.pem'],
    ['--tls', '--tlskey', '/absent/key.pem'],
  ]) {
    const { code, stderr } = await swarmctl([...flags, '-H', 'tcp://127.0.0.1:1', 'node', 'ls'])
    t.match({ code, stderr }, { code: 1, stderr: /^unable to resolve docker endpoint: .*\.pem/ }, flags.join(' '))
  }
  const { stderr } = await swarmctl(['--tls', '-H', 'tcp://127.0.0.1', '--debug', 'node', 'ls'])
  t.match(stderr, /127\.0\.0\.1:2376/, 'the port of TLS')
})

t.test('completion offers commands, flags, values and names of objects', async (t) => {
  const offered = async (...words: string[]) =>
    (await swarmctl(['__complete', ...words])).stdout
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split('\t')[0])
  t.same(await offered('se'), ['secret', 'service'])
  t.same(await offered('service', 'r'), ['rebalance', 'rm', 'rollback'])
  t.same(await offered('service', 'rm', ''), ['web'])
  t.same(await offered('service', 'rm', 'web', ''), [])
  t.same(await offered('service', 'scale', ''), ['web='])
  t.same(await offered('node', 'inspect', ''), ['node1', 'self'])
  t.same(await offered('service', 'create', '--restart-co'), ['--restart-condition'])
  t.same(await offered('service', 'create', '--restart-condition', 'o'), ['on-failure'])
  t.same(await offered('service', 'create', '--restart-condition=o'), ['--restart-condition=on-failure'])
  t.same(await offered('service', 'create', '--secret', 's'), ['s1', 's2'])
  t.same(await offered('-H', `unix://${socket}`, 'node', 'ins'), ['inspect'])
  t.same(await offered('swarm', 'join-token', ''), ['worker', 'manager'])
  t.same(await offered('completion', 'f'), ['fish'])
  t.same(await offered('--cont'), ['--context'])
  t.same(await offered('--context', 'ot'), ['other'])
  for (const shell of ['bash', 'zsh', 'fish'])
    t.match((await swarmctl(['completion', shell])).stdout, /swarmctl __complete/)
})

t.test('bash, which takes a line apart at = and :, is told what it is to replace', async (t) => {
  const script = (await swarmctl(['completion', 'bash'])).stdout
  /** As readline calls the function: `word` is what it would replace. */
  const completed = async (line: string, word: string) => {
    const shell = `swarmctl() { ${process.execPath} ${MAIN} "$@"; }
${script}
COMP_LINE=$1 COMP_POINT=\${#1}
_swarmctl swarmctl "$2" ''
printf '%s\\n' "\${COMPREPLY[@]}"`
    const argv = ['--norc', '-c', shell, 'bash', line, word]
    const { stdout } = await promisify(execFile)('bash', argv, {
      env: { PATH: process.env.PATH, HOME: folder, DOCKER_HOST: `unix://${socket}` },
    })
    return stdout.trim().split('\n')
  }
  const host = `-H unix://${socket}`
  t.same(await completed(`swarmctl ${host} service sc`, 'sc'), ['scale'])
  t.same(await completed(`swarmctl ${host} service rm `, ''), ['web'])
  t.same(await completed('swarmctl service create --restart-condition=on', 'on'), ['on-failure'])
  t.same(await completed('swarmctl service create --mode=', ''), [
    'replicated',
    'global',
    'replicated-job',
    'global-job',
  ])
})

const flags: readonly Flag[] = [
  { name: 'all', short: 'a', type: switchType, help: '' },
  { name: 'name', short: 'n', type: textType, help: '' },
  { name: 'env', short: 'e', type: listType, help: '' },
]
const scanned = (words: readonly string[], stopAtOperand = false) => {
  const { values, operands, rest } = scan(words, flags, {}, { stopAtOperand })
  return { ...Object.fromEntries(values), operands: [...operands, ...rest] }
}

t.test('words are read as pflag reads them', async (t) => {
  t.same(scanned(['-an', 'x', 'y']), { all: ['true'], name: ['x'], operands: ['y'] })
  t.same(scanned(['-nx', '-e=1', '--env', '-2', '--env=']), { name: ['x'], env: ['1', '-2', ''], operands: [] })
  t.same(scanned(['a', '-a', '--', '-n', 'b']), { all: ['true'], operands: ['a', '-n', 'b'] })
  t.same(scanned(['--all=false', '-']), { all: ['false'], operands: ['-'] })
  t.same(scanned(['-a', 'image', '-e', 'x', '--'], true), { all: ['true'], operands: ['image', '-e', 'x', '--'] })
  t.throws(() => scanned(['-az']), new FlagError("unknown shorthand flag: 'z' in -z"))
  t.throws(() => scanned(['-an']), new FlagError("flag needs an argument: 'n' in -n"))
  t.throws(() => scanned(['--name']), new FlagError('flag needs an argument: --name'))
  t.throws(() => scanned(['--=x']), new FlagError('bad flag syntax: --=x'))
})

/** Command lines, and what is asked of the daemon: its last request. */
const REQUESTS: readonly (readonly [string, string, unknown?])[] = [
  ['network connect net1 web', 'POST /networks/net1/connect', { Container: 'web', EndpointConfig: {} }],
  [
    'network connect --alias a,b --ip 10.9.0.8 --ip6 2001:db8::33 --link-local-ip 169.254.3.4 --link db:d --driver-opt k=v --gw-priority -3 net1 web',
    'POST /networks/net1/connect',
    {
      Container: 'web',
      EndpointConfig: {
        IPAMConfig: { IPv4Address: '10.9.0.8', IPv6Address: '2001:db8::33', LinkLocalIPs: ['169.254.3.4'] },
        Links: ['db:d'],
        Aliases: ['a', 'b'],
        DriverOpts: { k: 'v' },
        GwPriority: -3,
      },
    },
  ],
  ['network disconnect --force net1 web', 'POST /networks/net1/disconnect', { Container: 'web', Force: true }],
  ['network prune --force --filter until=24h', 'POST /networks/prune?filters={"until":{"24h":true}}'],
  ['network create --config-only base', 'POST /networks/create', { Name: 'base', ConfigOnly: true }],
  ['network create --config-from base n', 'POST /networks/create', { Name: 'n', ConfigFrom: { Network: 'base' } }],
  ['network create --ingress -d overlay in', 'POST /networks/create', { Name: 'in', Ingress: true }],
  ['network create --ipv4=false --ipv6 n', 'POST /networks/create', { EnableIPv4: false, EnableIPv6: true }],
  ['service logs --details --raw web', 'GET /services/web/logs?details=1'],
  ['logs --details web', 'GET /services/web/logs?details=1'],
  [
    'service update -d --no-resolve-image --dns-option-rm x --dns-search-rm y --image busybox web',
    'POST /services/web/update',
    { TaskTemplate: { ContainerSpec: { Image: 'busybox' } } },
  ],
]

t.test('flags become requests', async (t) => {
  for (const [words, asked, body] of REQUESTS) {
    recorder.requests.splice(0)
    const { code, stderr } = await swarmctl(words.split(' '))
    t.same([code, stderr], [0, ''], words)
    const last = recorder.requests.filter(({ path }) => path !== '/_ping').at(-1)!
    const [line, query] = asked.split('?')
    t.equal(`${last.method} ${last.path}`, line, words)
    const given = new URLSearchParams(last.query)
    for (const [name, value] of new URLSearchParams(query)) t.equal(given.get(name), value, `${words}: ${name}`)
    if (body !== undefined) t.match(last.body, body, words)
  }
})

t.test('network prune asks first, and takes only yes for it', async (t) => {
  recorder.requests.splice(0)
  const refused = await swarmctl(['network', 'prune'])
  t.match(refused, {
    code: 1,
    stdout: /not used by at least one container/,
    stderr: 'network prune has been cancelled\n',
  })
  t.same(recorder.takeChanges(), [])
})
