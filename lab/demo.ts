/**
 * `make demo`: the main job on real containers. Five hosts on this machine form a cluster, a stack is deployed and
 * answers, an update rolls, a broken one rolls itself back, the leader is killed and the cluster carries on. Each row
 * of the table at the end is something that was seen; anything else ends the demo with exit code 1.
 */
import { join } from 'node:path'
import { Lab } from './lab.ts'
import type { LabHost } from './lab-host.ts'
import { projectRoot } from './layout.ts'

const NAME = 'demo'
const PORT = 8080
const STACK = 'demo'
const SERVICE = `${STACK}_web`
const CONTROL_PORT = 2377
const SETTLE_MS = 60_000
const POLL_MS = 20

interface Row {
  readonly what: string
  readonly seen: string
  readonly seconds: string
}

const rows: Row[] = []

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(what)
}

/** Runs a step, and puts what it saw and how long it took into the table. */
async function step<T>(what: string, run: () => Promise<{ readonly seen: string; readonly value: T }>): Promise<T> {
  say(`\n# ${what}`)
  const start = performance.now()
  const { seen, value } = await run()
  rows.push({ what, seen, seconds: ((performance.now() - start) / 1000).toFixed(1) })
  say(`  ${seen}`)
  return value
}

/** Runs swarmctl on a host, as a person there would, and shows it. */
async function swarmctl(host: LabHost, ...args: string[]): Promise<string> {
  const shown = args.map((arg) => (arg.startsWith('SWMTKN') ? `${arg.slice(0, 16)}…` : arg)).join(' ')
  say(`  ${host.name}$ swarmctl ${shown}`)
  const { code, stdout, stderr } = await host.swarmctl(args, { timeoutMs: 120_000 })
  if (code !== 0) throw new Error(`swarmctl ${shown} ended with ${code}:\n${stderr}${stdout}`)
  return stdout.trim()
}

async function until(what: string, fact: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + SETTLE_MS
  while (!(await fact())) {
    if (performance.now() > deadline) throw new Error(`waited ${SETTLE_MS / 1000} s in vain: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

/** What the service answers on a host's published port to a client outside of the cluster; '' where it does not. */
async function ask(lab: Lab, host: LabHost): Promise<string> {
  const url = `http://${host.address}:${PORT}/`
  const { code, stdout } = await lab.client(['curl', '-s', '--max-time', '2', url], { timeoutMs: 5000 })
  return code === 0 ? stdout.trim() : ''
}

/** Hosts that answer, with the version that they serve. */
async function answers(lab: Lab): Promise<Map<string, string>> {
  const found = await Promise.all(
    lab.hosts.map(async (host) => [host.name, /version=(\S+)/.exec(await ask(lab, host))?.[1] ?? ''] as const),
  )
  return new Map(found.filter(([, version]) => version !== ''))
}

function summary(versions: Map<string, string>): string {
  return [...versions].map(([host, version]) => `${host}=${version}`).join(' ')
}

const running = ['--filter', 'desired-state=running', '--format', '{{.ID}} {{.Node}} {{.Image}} {{.CurrentState}}']

async function containerIds(host: LabHost): Promise<string> {
  const { stdout } = await host.docker(['ps', '--no-trunc', '-q', '--filter', 'label=com.docker.swarm.task.id'])
  return stdout.trim().split('\n').sort().join(' ')
}

async function form(lab: Lab, first: LabHost): Promise<void> {
  await step('3 managers and 2 workers join with tokens over mutual TLS', async () => {
    await swarmctl(first, 'swarm', 'init', '--advertise-addr', first.address)
    for (const role of ['manager', 'worker'] as const) {
      const token = await swarmctl(first, 'swarm', 'join-token', '-q', role)
      for (const host of role === 'manager' ? lab.managers.slice(1) : lab.workers) {
        await swarmctl(host, 'swarm', 'join', '--token', token, `${first.address}:${CONTROL_PORT}`)
      }
    }
    await until('five nodes are ready', async () => {
      const states = await first.swarmctl(['node', 'ls', '--format', '{{.Status}}'])
      return states.stdout.split('\n').filter((state) => state === 'Ready').length === lab.hosts.length
    })
    say(await swarmctl(first, 'node', 'ls'))
    return { seen: `${lab.hosts.length} nodes Ready`, value: undefined }
  })
}

/** Deploys the stack with images of that version. A deployment that ends in a rollback says so with its exit code. */
async function deploy(first: LabHost, version: string, expected: 'success' | 'failure' = 'success'): Promise<void> {
  say(`  ${first.name}$ VERSION=${version} swarmctl stack deploy -c lab/demo.yml ${STACK}`)
  const env = { ...first.clientEnv('swarmd'), VERSION: version }
  const file = join(projectRoot, 'lab/demo.yml')
  const { code, stdout, stderr } = await first.swarmctl(['stack', 'deploy', '-c', file, STACK], {
    env,
    timeoutMs: 120_000,
  })
  const report = `${stdout}${stderr}`
  say(
    report
      .trimEnd()
      .split('\n')
      .filter((line) => line.startsWith(`${SERVICE}:`) || line.startsWith('Creating') || line.startsWith('Updating'))
      .map((line) => `  ${line}`)
      .join('\n'),
  )
  if ((code === 0) !== (expected === 'success'))
    throw new Error(`stack deploy ended with exit code ${code}:\n${report}`)
}

async function demo(lab: Lab): Promise<void> {
  const [first, second] = lab.managers
  if (!first || !second) throw new Error('the demo needs managers')
  await form(lab, first)

  await step('a compose file is deployed, and real containers answer', async () => {
    await deploy(first, '1')
    await until('four hosts answer', async () => (await answers(lab)).size === 4)
    say(await swarmctl(first, 'stack', 'services', STACK))
    return { seen: summary(await answers(lab)), value: undefined }
  })

  await step('an update rolls, each step gated on the health check', async () => {
    await deploy(first, '2')
    await until('version 2 answers everywhere', async () => {
      const versions = [...(await answers(lab)).values()]
      return versions.length === 4 && versions.every((version) => version === '2')
    })
    const state = await swarmctl(first, 'service', 'inspect', '--format', '{{.UpdateStatus.State}}', SERVICE)
    return { seen: `${summary(await answers(lab))}; update ${state}`, value: undefined }
  })

  await step('a broken update rolls itself back', async () => {
    await deploy(first, 'broken', 'failure')
    const state = await swarmctl(first, 'service', 'inspect', '--format', '{{.UpdateStatus.State}}', SERVICE)
    expect(state === 'rollback_completed', `the update ended as ${state}`)
    await until('version 2 answers everywhere', async () => {
      const versions = [...(await answers(lab)).values()]
      return versions.length === 4 && versions.every((version) => version === '2')
    })
    return { seen: `${state}; ${summary(await answers(lab))}`, value: undefined }
  })

  await step('the leader is killed (SIGKILL), the cluster carries on', async () => {
    const leaderName = (await swarmctl(second, 'node', 'ls', '--format', '{{.Hostname}} {{.ManagerStatus}}'))
      .split('\n')
      .find((line) => line.endsWith('Leader'))
      ?.split(' ')[0]
    const leader = lab.host(leaderName ?? '')
    const survivor = lab.managers.find((host) => host.name !== leader.name) ?? second
    const before = await Promise.all(lab.hosts.map(containerIds))
    say(`  kill -9 swarmd on ${leader.name}`)
    await leader.killSwarmd()
    const start = performance.now()
    await until('a write is acknowledged', async () => {
      const { code } = await survivor.swarmctl(['config', 'create', 'after-the-kill', '/etc/hostname'])
      return code === 0
    })
    const writeMs = Math.round(performance.now() - start)
    await leader.startSwarmd()
    await until('the killed manager is back', async () => {
      const { stdout } = await survivor.swarmctl(['node', 'ls', '--format', '{{.Status}} {{.ManagerStatus}}'])
      return stdout.split('\n').filter((line) => /^Ready (Leader|Reachable)/.test(line)).length === lab.managers.length
    })
    const after = await Promise.all(lab.hosts.map(containerIds))
    expect(before.join() === after.join(), 'containers were restarted')
    return { seen: `next write acknowledged after ${writeMs} ms; no container restarted`, value: undefined }
  })

  await step('a worker loses power, its tasks move', async () => {
    const tasks = (await swarmctl(first, 'service', 'ps', SERVICE, ...running)).split('\n')
    const victim = lab.workers.find((host) => tasks.some((line) => line.includes(` ${host.name} `))) ?? lab.workers[0]
    if (!victim) throw new Error('no worker')
    await victim.powerOff()
    await until('four hosts answer again', async () => {
      const versions = await answers(lab)
      return versions.size === 4 && !versions.has(victim.name)
    })
    return { seen: `${victim.name} is gone; ${summary(await answers(lab))}`, value: undefined }
  })
}

function table(): string {
  const widths = [Math.max(...rows.map((row) => row.what.length)), Math.max(...rows.map((row) => row.seen.length))]
  const line = (what: string, seen: string, seconds: string) =>
    `${what.padEnd(widths[0] ?? 0)}  ${seen.padEnd(widths[1] ?? 0)}  ${seconds.padStart(7)}`
  return [line('WHAT', 'SEEN', 'SECONDS'), ...rows.map((row) => line(row.what, row.seen, row.seconds))].join('\n')
}

async function main(): Promise<number> {
  const keep = process.argv.includes('--keep')
  let lab: Lab | undefined
  const remove = async (): Promise<void> => {
    if (keep)
      say(`\nThe lab runs on: node build/lab/main.js status --name ${NAME}; remove it with: … down --name ${NAME}`)
    else await Lab.down({ name: NAME })
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => void remove().finally(() => process.exit(130)))
  }
  try {
    lab = await step('five hosts, each with its own network, Docker Engine and swarmd', async () => {
      const value = await Lab.up({ name: NAME, managers: 3, workers: 2, log: (text) => say(`  ${text}`) })
      return { seen: value.hosts.map((host) => `${host.name} ${host.address}`).join(', '), value }
    })
    await demo(lab)
    say(`\n${table()}`)
    return 0
  } catch (error) {
    say(
      `\n${rows.length > 0 ? table() : ''}\n\nThe demo failed: ${error instanceof Error ? error.message : String(error)}`,
    )
    if (lab && keep) say(`Logs: ${lab.dir}/n*/swarmd.log`)
    return 1
  } finally {
    await remove()
  }
}

process.exitCode = await main()
