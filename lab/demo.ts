/**
 * `make demo`: the main job on real containers. Five hosts on this machine form a cluster; the voting app is deployed on
 * overlay networks, and votes through every node arrive in the result page. While people go on voting, an update rolls, a
 * broken one rolls itself back, the leader is killed, and a worker loses power. Each row of the table at the end is
 * something that was seen; anything else ends the demo with exit code 1.
 */
import { relative } from 'node:path'
import { expect, say, step, swarmctl, table, until } from './demo-steps.ts'
import { Lab } from './lab.ts'
import type { LabHost } from './lab-host.ts'
import { projectRoot } from './layout.ts'
import { Visitors, type Visits } from './visitors.ts'

const NAME = 'demo'
const STACK = 'vote'
const STACK_FILE = 'compose-examples/voting-app/docker-stack.yml'
const VOTE = `${STACK}_vote`
const VOTE_REPLICAS = 4
const VOTE_PORT = 5000
const RESULT_PORT = 5001
const CONTROL_PORT = 2377
const VISITORS_PER_SECOND = 20
/** How long people come before and after what happens, so that it happens among them. */
const AMONG_MS = 500
/** The update's own pace, for a demo: the stack file's waits longer. */
const PACE = ['--update-parallelism', '2', '--update-monitor', '1s', '--rollback-monitor', '500ms']

interface Counts {
  readonly a: number
  readonly b: number
  readonly optionA: string
  readonly optionB: string
  readonly state: string
}

const voteUrl = (host: LabHost): string => `http://${host.address}:${VOTE_PORT}/`

/** Asks as someone outside of the cluster. @throws unless it is answered with success. */
async function curl(lab: Lab, ...args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await lab.client(['curl', '-sS', '--fail', '--max-time', '5', ...args])
  if (code !== 0) throw new Error(stderr.trim())
  return stdout
}

const counts = async (lab: Lab, host: LabHost): Promise<Counts> =>
  JSON.parse(await curl(lab, `http://${host.address}:${RESULT_PORT}/counts`)) as Counts

const shown = ({ a, b, optionA, optionB }: Counts): string => `${optionA} ${a}, ${optionB} ${b}`

/** Waits until every vote that was acknowledged is counted, as each of these hosts tells it. */
async function counted(lab: Lab, hosts: readonly LabHost[], votes: number): Promise<Counts> {
  let last: Counts | undefined
  for (const host of hosts) {
    await until(`${votes} votes are counted, as ${host.name} tells it`, async () => {
      last = await counts(lab, host)
      if (last.a + last.b !== votes) throw new Error(`it shows ${shown(last)}`)
      return true
    })
  }
  if (!last) throw new Error('no host was asked')
  return last
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

/** What people saw of a step that none of them may notice. */
function unnoticed(visits: Visits): string {
  expect(visits.failed === 0, `${visits.failed} of ${visits.visitors} were turned away: ${visits.failures.join('; ')}`)
  return `${visits.visitors} visitors, none turned away`
}

async function containerIds(host: LabHost): Promise<string> {
  const { stdout } = await host.docker(['ps', '--no-trunc', '-q', '--filter', 'label=com.docker.swarm.task.id'])
  return stdout.trim().split('\n').sort().join(' ')
}

async function form(lab: Lab, first: LabHost): Promise<void> {
  await step('3 managers and 2 workers join with tokens over mutual TLS', async () => {
    await swarmctl(first, ['swarm', 'init', '--advertise-addr', first.address])
    for (const role of ['manager', 'worker'] as const) {
      const token = await swarmctl(first, ['swarm', 'join-token', '-q', role])
      for (const host of role === 'manager' ? lab.managers.slice(1) : lab.workers) {
        await swarmctl(host, ['swarm', 'join', '--token', token, `${first.address}:${CONTROL_PORT}`])
      }
    }
    await until('five nodes are ready', async () => {
      const states = await first.swarmctl(['node', 'ls', '--format', '{{.Status}}'])
      return states.stdout.split('\n').filter((state) => state === 'Ready').length === lab.hosts.length
    })
    say(await swarmctl(first, ['node', 'ls']))
    return { seen: `${lab.hosts.length} nodes Ready`, value: undefined }
  })
}

async function deploy(lab: Lab, first: LabHost): Promise<void> {
  await step('the voting app is deployed: 5 services on 2 overlay networks', async () => {
    await swarmctl(first, ['stack', 'deploy', '--detach', '-c', STACK_FILE, STACK], {
      env: { DB_NODE: `node.hostname == ${first.name}` },
      show: (line) => line.startsWith('Creating'),
    })
    await swarmctl(first, ['service', 'scale', '--detach', `${VOTE}=${VOTE_REPLICAS}`])
    await until('every replica runs', async () => {
      const { stdout } = await first.swarmctl(['stack', 'services', '--format', '{{.Replicas}}', STACK])
      const replicas = stdout.trim().split('\n')
      const ready = replicas.every((text) => /^(\d+)\/\1$/.test(text))
      if (!ready || !replicas.includes(`${VOTE_REPLICAS}/${VOTE_REPLICAS}`)) throw new Error(replicas.join(' '))
      return true
    })
    await until('the result page has its database', async () => (await counts(lab, first)).state === 'Live')
    say(await swarmctl(first, ['stack', 'ps', '--format', 'table {{.Name}}\\t{{.Node}}\\t{{.CurrentState}}', STACK]))
    const names = await swarmctl(first, ['stack', 'services', '--format', '{{.Name}} {{.Replicas}}', STACK])
    return { seen: names.replaceAll(`${STACK}_`, '').split('\n').join(', '), value: undefined }
  })
}

/** @returns how many votes there are. */
async function castThroughAll(lab: Lab): Promise<number> {
  return step('a vote through each node; the pages know who came', async () => {
    const seen = []
    for (const [index, host] of lab.hosts.entries()) {
      const page = await curl(lab, voteUrl(host))
      const part = (id: string) => new RegExp(`id="${id}">([^<]*)<`).exec(page)?.[1] ?? ''
      const client = part('client')
      expect(client === lab.clientAddress, `${host.name}: the page takes the client for ${client}`)
      const choice = index % 2 === 0 ? 'a' : 'b'
      await curl(lab, '--data', `vote=${choice}`, voteUrl(host))
      say(`  client$ curl -d vote=${choice} ${voteUrl(host)}   (answered on ${part('node')}, for ${client})`)
      seen.push(`${host.name}→${part('node')}`)
    }
    const result = await counted(lab, lab.hosts, lab.hosts.length)
    return { seen: `${seen.join(' ')}; ${shown(result)} through every node`, value: lab.hosts.length }
  })
}

async function demo(lab: Lab): Promise<void> {
  const [first, second] = lab.managers
  if (!first || !second) throw new Error('the demo needs managers')
  await form(lab, first)
  await deploy(lab, first)
  let votes = await castThroughAll(lab)

  const visitors = new Visitors(lab, { urls: lab.hosts.map(voteUrl), perSecond: VISITORS_PER_SECOND })
  /** What happens among visitors, and what they saw of it. */
  const among = async (happens: () => Promise<void>): Promise<Visits> => {
    await pause(AMONG_MS)
    await happens()
    await pause(AMONG_MS)
    const visits = await visitors.seen()
    votes += visits.votes
    return visits
  }
  const progress = (line: string) => /^(overall progress|rollback):/.test(line)
  try {
    await step('an update rolls, each step gated on the health check', async () => {
      const update = ['service', 'update', ...PACE, '--image', 'voting-vote:2', VOTE]
      const visits = await among(async () => void (await swarmctl(first, update, { show: progress })))
      expect('1' in visits.versions && '2' in visits.versions, `versions seen: ${Object.keys(visits.versions)}`)
      const { versions } = visits
      return {
        seen: `version 1 ${versions[1]} times, then 2 ${versions[2]} times; ${unnoticed(visits)}`,
        value: undefined,
      }
    })

    await step('a broken update rolls itself back', async () => {
      const update = ['service', 'update', '--image', 'voting-vote:broken', VOTE]
      const visits = await among(async () => void (await swarmctl(first, update, { show: progress, exitCode: 1 })))
      const state = await swarmctl(first, ['service', 'inspect', '--format', '{{.UpdateStatus.State}}', VOTE])
      expect(state === 'rollback_completed', `the update ended as ${state}`)
      expect(Object.keys(visits.versions).join() === '2', `versions seen: ${Object.keys(visits.versions)}`)
      return { seen: `${state}; ${unnoticed(visits)}`, value: undefined }
    })

    await step('the leader is killed (SIGKILL), the cluster carries on', async () => {
      const roles = await swarmctl(second, ['node', 'ls', '--format', '{{.Hostname}} {{.ManagerStatus}}'])
      const leader = lab.host(/^(\S+) Leader$/m.exec(roles)?.[1] ?? '')
      const survivor = lab.managers.find((host) => host.name !== leader.name) ?? second
      const before = await Promise.all(lab.hosts.map(containerIds))
      let writeMs = 0
      const visits = await among(async () => {
        say(`  kill -9 swarmd on ${leader.name}`)
        await leader.killSwarmd()
        const start = performance.now()
        await until('a write is acknowledged', async () => {
          const { code } = await survivor.swarmctl(['config', 'create', 'after-the-kill', '/etc/hostname'])
          return code === 0
        })
        writeMs = Math.round(performance.now() - start)
        await leader.startSwarmd()
        await until('the killed manager is back', async () => {
          const { stdout } = await survivor.swarmctl(['node', 'ls', '--format', '{{.Status}} {{.ManagerStatus}}'])
          return (
            stdout.split('\n').filter((line) => /^Ready (Leader|Reachable)/.test(line)).length === lab.managers.length
          )
        })
      })
      const after = await Promise.all(lab.hosts.map(containerIds))
      expect(before.join() === after.join(), 'containers were restarted')
      return { seen: `next write after ${writeMs} ms; no container restarted; ${unnoticed(visits)}`, value: undefined }
    })

    await step('all of these votes are counted, each once', async () => {
      const rest = await visitors.end()
      unnoticed(rest)
      votes += rest.votes
      const result = await counted(lab, lab.hosts, votes)
      return { seen: `${votes} votes acknowledged; ${shown(result)}`, value: undefined }
    })
  } finally {
    visitors.close()
  }

  await step('a worker loses power, its tasks move', async () => {
    const tasks = await swarmctl(first, [
      'service',
      'ps',
      '--filter',
      'desired-state=running',
      '--format',
      '{{.Node}}',
      VOTE,
    ])
    const victim = lab.workers.find((host) => tasks.split('\n').includes(host.name)) ?? lab.workers[0]
    if (!victim) throw new Error('no worker')
    const others = lab.hosts.filter((host) => host !== victim)
    await victim.powerOff()
    await until('every task runs elsewhere', async () => {
      const { stdout } = await first.swarmctl([
        'stack',
        'ps',
        '--filter',
        'desired-state=running',
        '--format',
        '{{.Node}} {{.CurrentState}}',
        STACK,
      ])
      const lines = stdout.trim().split('\n')
      return (
        lines.length === VOTE_REPLICAS + 4 &&
        lines.every((line) => / Running/.test(line) && !line.startsWith(`${victim.name} `))
      )
    })
    for (const host of others) {
      // the pages may still hold a connection to a redis that is no more, and say so once
      await until(`${host.name} takes a vote`, async () => {
        await curl(lab, '--data', 'vote=b', voteUrl(host))
        return true
      })
    }
    const result = await counted(lab, others, votes + others.length)
    return {
      seen: `${victim.name} is gone; votes through the other four are counted: ${shown(result)}`,
      value: undefined,
    }
  })
}

async function main(): Promise<number> {
  process.chdir(projectRoot)
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
      const log = (text: string) => say(`  ${text}`)
      const value = await Lab.up({ name: NAME, managers: 3, workers: 2, images: 'voting-app', log })
      return { seen: value.hosts.map((host) => `${host.name} ${host.address}`).join(', '), value }
    })
    await demo(lab)
    say(`\n${table()}`)
    return 0
  } catch (error) {
    const tasks = await lab?.managers[0]?.swarmctl(['stack', 'ps', '--no-trunc', STACK]).catch(() => undefined)
    if (tasks) say(`\n${tasks.stdout}${tasks.stderr}`)
    say(`\n${table()}\n\nThe demo failed: ${error instanceof Error ? error.message : String(error)}`)
    if (lab && keep) say(`Logs: ${relative(projectRoot, lab.dir)}/n*/swarmd.log`)
    return 1
  } finally {
    await remove()
  }
}

process.exitCode = await main()
