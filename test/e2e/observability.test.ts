// One machine with --metrics-addr: what Prometheus, a load balancer and whoever helps see of it, from before its swarm on.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { projectRoot } from '../../lab/layout.ts'
import { must, run } from '../../lab/run.ts'
import { bareLab } from './support/fresh-cluster.ts'
import { waitFor } from './support/wait-for.ts'

const WAIT_MS = 60_000
const PORT = 9323
const MARKERS = ['marker-of-a-variable', 'marker-of-a-secret', 'marker-of-an-argument']

const lab = await bareLab(t)
const host = lab.host('n1')
await host.restartSwarmd({ args: [`--metrics-addr=127.0.0.1:${PORT}`, '--log-format=text'] })
t.teardown(() => host.restartSwarmd({}))

const fetch = async (path: string) => {
  const argv = ['curl', '-s', '-m', '10', '-w', '\n%{http_code}', `http://127.0.0.1:${PORT}${path}`]
  const { stdout } = await host.exec(argv)
  const end = stdout.lastIndexOf('\n')
  return { status: Number(stdout.slice(end + 1)), text: stdout.slice(0, end) }
}
const ready = async () => {
  const { status, text } = await fetch('/readyz')
  return { status, reasons: (JSON.parse(text) as { readonly reasons?: readonly string[] }).reasons ?? [] }
}
const metric = async (name: string): Promise<number | undefined> => {
  const line = (await fetch('/metrics')).text.split('\n').find((each) => each.startsWith(`${name} `))
  return line === undefined ? undefined : Number(line.slice(name.length))
}
const swarmctl = async (args: readonly string[], input?: string): Promise<string> => {
  const { code, stdout, stderr } = await host.swarmctl(args, input === undefined ? {} : { input })
  if (code !== 0) throw new Error(`swarmctl ${args.join(' ')}: ${code} ${stderr}`)
  return stdout.trim()
}
const isReady = () => waitFor('the node is ready', async () => (await ready()).status === 200, WAIT_MS)

t.test('a node is ready once it is in a swarm, and says before what it lacks', async (t) => {
  t.match(await ready(), { status: 503, reasons: ['cluster: this node is in no swarm'] })
  t.equal((await fetch('/healthz')).status, 200)
  t.equal(await metric('swarm_node_manager'), 0)
  await swarmctl(['swarm', 'init'])
  await isReady()
  t.equal(await metric('swarm_manager_leader'), 1)
  t.equal(await metric('swarmctl_ready'), 1)
})

t.test('what runs is counted', async (t) => {
  const [variable = '', secret = '', argument = ''] = MARKERS
  await swarmctl(['secret', 'create', 'password', '-'], secret)
  await swarmctl(['network', 'create', '-d', 'overlay', 'net'])
  const options = ['--replicas', '2', '--network', 'net', '--secret', 'password', '--env', `WORD=${variable}`]
  await swarmctl(['service', 'create', '--name', 'web', ...options, '--label', `word=${argument}`, 'hello:1'])
  t.equal(await metric('swarm_manager_tasks_total{state="running"}'), 2)
  t.equal(await metric('swarm_manager_services_total'), 1)
  t.equal(await metric('swarm_manager_secrets_total'), 1)
  t.equal(await metric('swarm_dispatcher_scheduling_delay_seconds_count'), 2)
  t.ok(((await metric('swarm_raft_transaction_latency_seconds_count')) ?? 0) > 0)
  t.ok(((await metric('swarm_store_read_tx_latency_seconds_count')) ?? 0) > 0)
  t.equal(await metric('swarmctl_data_plane_up'), 1)
  t.equal(await metric('swarmctl_data_plane_repairs_total'), 0)
  const { text } = await fetch('/metrics')
  t.match(text, /^swarmctl_network_addresses_used\{network="net",subnet="[\d./]+"\} 3$/m)
  t.match(text, /^swarmctl_data_plane_masqueraded_connections_total \d+$/m)
})

t.test('each metric that the board and the rules ask for has its place in the answer', async (t) => {
  const { text } = await fetch('/metrics')
  const exported = new Set([...text.matchAll(/^# TYPE (\w+)/gm)].map(([, name]) => name))
  const asked = ['grafana.json', 'alerts.yml'].flatMap((name) =>
    [
      ...readFileSync(join(projectRoot, 'docs/observability', name), 'utf8').matchAll(
        /\b(?:swarm|swarmctl|process)_[a-z0-9_]+\b/g,
      ),
    ].map(([word]) => word.replace(/_(bucket|sum|count)$/, '')),
  )
  t.ok(asked.length > 50)
  t.same(
    [...new Set(asked)].filter((name) => !exported.has(name)),
    [],
  )
})

t.test('a bridge that somebody takes down is up again, and counted', async (t) => {
  const namespaces = (await must(host.execArgv(['ip', 'netns', 'list'])))
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '')
  const fabric = namespaces.find((name) => name.startsWith('swarmctl')) ?? namespaces[0] ?? ''
  const bridge = /\d+: (br[^:@]+)[:@]/.exec(await must(host.execArgv(['ip', '-n', fabric, 'link'])))?.[1]
  t.type(bridge, 'string')
  await must(host.execArgv(['ip', '-n', fabric, 'link', 'set', bridge ?? '', 'down']))
  await waitFor('the repair is counted', async () => (await metric('swarmctl_data_plane_repairs_total')) ?? 0, WAIT_MS)
})

t.test('an engine that is gone makes the node unready, its return ready', async (t) => {
  await host.killEngine()
  const said = await ready()
  t.equal(said.status, 503)
  t.match(said.reasons, [/^engine: Cannot connect to the Docker daemon/])
  t.equal((await fetch('/healthz')).status, 200)
  await host.startEngine()
  await isReady()
})

t.test('a support bundle has the node’s state and log, and no secret', async (t) => {
  const path = join(t.testdir({}), 'bundle.tar.gz')
  t.equal(await swarmctl(['support-bundle', '-o', path]), path)
  const unpack = async (...names: string[]) => (await run(['tar', '-xzOf', path, ...names])).stdout
  const all = await unpack()
  for (const marker of [
    ...MARKERS,
    'PRIVATE KEY',
    (await swarmctl(['swarm', 'join-token', '-q', 'worker'])).slice(9),
  ]) {
    t.notMatch(all, marker)
  }
  const file = (name: string) => unpack(`swarmctl-support/${name}`)
  t.match(JSON.parse(await file('services.json')), [{ Spec: { Name: 'web' } }])
  t.match(JSON.parse(await file('node.json')), { kind: 'manager', isLeader: true, raft: { role: 'leader' } })
  t.match(await file('swarmd.log'), /^\S+Z INFO {2,}API listens {2}address=/m)
  t.match(await file('swarmd-net.log'), 'the data plane is served')
  t.match(await file('metrics.txt'), /^swarm_manager_leader 1$/m)
})
