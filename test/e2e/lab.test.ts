/** The lab itself, under a name of its own: what it promises to every other end-to-end test. Two hosts, no swarmd. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { cgroupMounts } from '../../lab/cgroups.ts'
import { Lab } from '../../lab/lab.ts'
import { defaultLabDir } from '../../lab/layout.ts'
import { listNetns, netnsPath } from '../../lab/network.ts'
import { identify } from '../../lab/processes.ts'
import { Cluster } from './support/cluster.ts'

const name = 'e2elab'
const dir = defaultLabDir(name)
const options = { name, dir, managers: 1, workers: 1, swarmd: false as const }

t.setTimeout(300_000)
const unexpected: string[] = []
const lab = await Lab.up({ ...options, onUnexpectedExit: (exit) => unexpected.push(`${exit.host} ${exit.process}`) })
t.teardown(() => Lab.down({ name, dir }))

const curl = (url: string) => lab.client(['curl', '-s', '-m', '2', url])
const [n1, n2] = [lab.host('n1'), lab.host('n2')]

t.test('each host has an engine of its own, whose containers the client reaches', async (t) => {
  for (const host of lab.hosts) {
    const ran = await host.docker(['run', '-d', '--name', 'web', '-p', '8080:8080', 'hello:1'])
    t.equal(ran.code, 0, ran.stderr)
  }
  for (const host of lab.hosts) {
    const id = (await host.docker(['ps', '-q', '--no-trunc'])).stdout.trim()
    t.match(await answerOf(host.address), `version=1 hostname=${id.slice(0, 12)} pid=1 client=${lab.clientAddress}`)
    t.equal((await host.exec(['hostname'])).stdout, `${host.name}\n`)
  }
  const [ids1, ids2] = await Promise.all(
    lab.hosts.map(async (host) => (await host.docker(['images', '-q', '--no-trunc'])).stdout.split('\n').toSorted()),
  )
  t.ok((ids1?.length ?? 0) > 4)
  t.strictSame(ids1, ids2, 'an image has one id everywhere')
})

t.test('the health command of the hello images tells a healthy server from a broken one', async (t) => {
  t.equal((await n1.docker(['exec', 'web', 'healthy'])).code, 0)
  await n1.docker(['run', '-d', '--name', 'broken', 'hello:broken'])
  for (;;) {
    const logs = await n1.docker(['exec', 'broken', 'sh', '-c', 'nc 127.0.0.1 8080 </dev/null && echo listens'])
    if (logs.stdout.includes('listens')) break
  }
  t.equal((await n1.docker(['exec', 'broken', 'healthy'])).code, 1)
})

t.test('a stop of the images takes no grace period: they handle SIGTERM', async (t) => {
  await n1.docker(['run', '-d', '--name', 'pause', 'busybox'])
  await n1.docker(['run', '-d', '--name', 'sleep', 'alpine', 'sleep', '1000'])
  await n1.docker(['stop', 'broken', 'pause', 'sleep'])
  const format = '{{.Name}} {{.State.ExitCode}}'
  const codes = await n1.docker(['inspect', '-f', format, 'broken', 'pause', 'sleep'])
  t.equal(codes.stdout, '/broken 0\n/pause 0\n/sleep 143\n', 'none was killed')
})

t.test('a cut is one-way, mutual or a whole cable, and heals', async (t) => {
  const ask = async () => (await n1.exec(['curl', '-s', '-m', '1', `http://${n2.address}:8080/healthz`])).stdout
  const healed = async () => {
    while ((await ask()) !== 'ok\n');
  }
  await healed()

  await lab.cut('n2', 'n1', { oneWay: true })
  t.strictSame(await lab.cuts(), ['n2>n1'])
  t.equal(await ask(), '', 'the answer is lost')
  t.match(await answerOf(n2.address), 'hello', 'the client is not concerned')

  await lab.heal('n2', 'n1')
  await healed()

  await lab.cut('n1', 'n2')
  t.same(new Set(await lab.cuts()), new Set(['n1>n2', 'n2>n1']))
  t.equal(await ask(), '')

  await lab.cut('n2')
  t.equal((await curl(`http://${n2.address}:8080/`)).stdout, '', 'a pulled cable concerns all')

  await lab.heal()
  t.strictSame(await lab.cuts(), [])
  await healed()
})

t.test('SIGSTOP holds an engine, SIGKILL ends it, and the lab starts it again', async (t) => {
  n2.pause('engine')
  t.equal((await n2.docker(['ps'], { timeoutMs: 1_000 })).code, 137, 'it answers nothing')
  n2.resume('engine')
  t.equal((await n2.docker(['ps'])).code, 0)

  const before = n2.process('engine')
  await n2.killEngine()
  t.equal(n2.process('engine'), undefined)
  await n2.startEngine()
  t.not(n2.process('engine')?.pid, before?.pid)
  t.equal((await n2.docker(['ps', '-aq'])).stdout.split('\n').length, 2, 'its disk is as it was')
  t.equal((await n2.docker(['start', 'web'])).code, 0)
})

t.test('a power loss kills all on the host and keeps its disk', async (t) => {
  const init = n1.process('init')
  await n1.powerOff()
  t.equal(identify(init?.pid ?? 0), undefined)
  t.notOk(existsSync(netnsPath(n1.plan.netns)))
  t.match(await n1.exec(['true']).catch(String), 'n1 is off')
  t.match(await answerOf(n2.address), 'hello', 'the other host is not concerned')

  await n1.boot()
  t.equal((await n1.docker(['start', 'web'])).code, 0)
  t.match(await answerOf(n1.address), 'version=1')
})

t.test('a process that ends by itself is told of, with the end of its log', async (t) => {
  let tell: (text: string) => void = () => {}
  const told = new Promise<string>((resolve) => {
    tell = resolve
  })
  const watching = Lab.attach({
    dir,
    onUnexpectedExit: (exit) => tell(`${exit.host} ${exit.process} ${exit.how}\n${exit.logTail}`),
  })
  await watching.host('n2').restartEngine()
  process.kill(n2.process('engine')?.pid ?? 0, 'SIGTERM')
  const awake = setInterval(() => {}, 1_000) // the lab alone keeps no process alive
  t.match(await told, /^n2 engine exit code 0\n--- the end of .*engine\.log\n.*Processing signal/s)
  clearInterval(awake)
  await lab.host('n2').startEngine()
})

t.test('hosts.json names everything, and any process may attach by it', async (t) => {
  const record = JSON.parse(readFileSync(join(dir, 'hosts.json'), 'utf8'))
  t.match(record.hosts, [
    {
      name: 'n1',
      role: 'manager',
      address: n1.address,
      netns: 'e2elab-n1',
      engineSocket: n1.paths.engineSocket,
      swarmdSocket: n1.paths.swarmdSocket,
      pids: { init: n1.process('init')?.pid, engine: n1.process('engine')?.pid, swarmd: null },
    },
    { name: 'n2', role: 'worker' },
  ])
  t.equal((await Lab.attach({ dir }).host('n2').exec(['hostname'])).stdout, 'n2\n')
})

t.test('a second lab of that name elsewhere is refused', async (t) => {
  await t.rejects(Lab.up({ ...options, dir: `${dir}-other` }), { message: `stands in ${dir}` })
  t.notOk(existsSync(`${dir}-other`))
})

t.test("the engines' own Swarm mode forms over the lab, as an oracle and for the bench", async (t) => {
  await n1.docker(['rm', '-f', 'web'])
  const swarm = await Cluster.form(lab, 'engine')
  t.equal((await swarm.leader()).name, 'n1')
  await swarm.docker(n1, 'secret', 'create', 'oracle_secret', '/etc/hostname')
  await swarm.docker(
    n1,
    'service',
    'create',
    '-d',
    '--name',
    'oracle_web',
    '--replicas',
    '2',
    '--secret',
    'oracle_secret',
    'busybox',
  )
  const running = await swarm.waitFor(
    'both tasks run',
    async () => {
      const listed = await swarm.docker(n1, 'service', 'ps', 'oracle_web', '--format', '{{.Node}} {{.CurrentState}}')
      const lines = listed.trim().split('\n')
      return lines.length === 2 && lines.every((line) => line.includes('Running')) && lines
    },
    120_000,
  )
  t.same(new Set(running.map((line) => line.split(' ')[0])), new Set(['n1', 'n2']))
  await swarm.reset('oracle_')
  t.equal(await swarm.docker(n1, 'service', 'ls', '-q'), '')
  t.equal(await swarm.docker(n1, 'secret', 'ls', '-q'), '')
  t.equal((await n2.docker(['ps', '-aq', '--filter', 'name=oracle_'])).stdout, '')
})

t.test('what the lab itself ended was never told of as unexpected', (t) => {
  t.strictSame(unexpected, [])
  t.end()
})

t.test('down leaves nothing', async (t) => {
  const pids = lab.hosts.flatMap((host) => [host.process('init')?.pid ?? 0, host.process('engine')?.pid ?? 0])
  t.equal(pids.filter((pid) => identify(pid)).length, 4)
  await lab.down()

  t.strictSame(
    pids.filter((pid) => identify(pid)),
    [],
  )
  t.strictSame(
    readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && identify(Number(pid)) && commandOf(pid).includes(dir)),
    [],
    'no process has the lab on its command line',
  )
  t.strictSame(
    (await listNetns()).filter((netns) => netns.startsWith(`${name}-`)),
    [],
  )
  t.strictSame(
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(name)),
    [],
  )
  t.strictSame(
    cgroupMounts().filter((mount) => existsSync(join(mount, name))),
    [],
  )
  t.notOk(existsSync(dir))
  await t.resolves(lab.down(), 'again is no error')
})

/** Asks until an answer comes: a container that was just started does not listen yet. */
async function answerOf(address: string): Promise<string> {
  for (;;) {
    const { stdout } = await curl(`http://${address}:8080/`)
    if (stdout !== '') return stdout
  }
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return '' // it ended meanwhile
  }
}
