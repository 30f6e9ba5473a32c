/**
 * The two sides of every comparison: a cluster of `swarmd`, and one of the engines' own Swarm mode, on hosts alike.
 * Only what measures need; how a cluster is formed must not differ between the sides but for the socket.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { callApi } from '../lab/engine-api.ts'
import type { Lab } from '../lab/lab.ts'
import type { LabHost, Target } from '../lab/lab-host.ts'

const CONTROL_PORT = 2377
const SETTLE_MS = 240_000
/** A look costs the cluster something too: one in so many ms, or in this part of the time that has passed. */
const POLL = { leastMs: 20, part: 0.02 } as const
/** Of /proc: USER_HZ is 100 on every Linux that runs containers. */
const MS_PER_TICK = 10
const OUR_PROGRAMS = /swarmd(-net)?\.mjs/
const RAFT_LEADER_LINE = /"term":(\d+)[^\n]*"msg":"raft leader"/g

interface NodeObject {
  readonly Spec: { readonly Role: string }
  readonly Status: { readonly State: string }
  readonly Description: { readonly Hostname: string }
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability: string }
}

export class BenchCluster {
  readonly lab: Lab
  readonly to: Target
  /** As the table calls it. */
  readonly title: string

  private constructor(lab: Lab, to: Target) {
    this.lab = lab
    this.to = to
    this.title = to === 'engine' ? 'Docker Swarm' : 'swarmctl'
  }

  static async form(lab: Lab, to: Target): Promise<BenchCluster> {
    const cluster = new BenchCluster(lab, to)
    const [first, ...others] = lab.hosts
    if (!first) throw new Error('a lab without hosts forms no cluster')
    const own = (host: LabHost) => ({ ListenAddr: `0.0.0.0:${CONTROL_PORT}`, AdvertiseAddr: host.address })
    await cluster.api(first, 'POST', '/swarm/init', own(first))
    const { JoinTokens: tokens } = await cluster.api<{ JoinTokens: { Manager: string; Worker: string } }>(
      first,
      'GET',
      '/swarm',
    )
    for (const host of others) {
      await cluster.api(host, 'POST', '/swarm/join', {
        ...own(host),
        RemoteAddrs: [`${first.address}:${CONTROL_PORT}`],
        JoinToken: host.role === 'manager' ? tokens.Manager : tokens.Worker,
      })
    }
    await cluster.whole()
    return cluster
  }

  socket(host: LabHost): string {
    return this.to === 'engine' ? host.paths.engineSocket : host.paths.swarmdSocket
  }

  /** An API call, its answer parsed. @throws on a status of 400 or more, with the error text. */
  async api<T = unknown>(host: LabHost, method: string, path: string, body?: unknown): Promise<T> {
    const answer = await callApi(this.socket(host), { method, path, body })
    if (answer.status >= 400) {
      throw new Error(`${method} ${path} on ${host.name}: ${answer.status} ${answer.body.trim()}`)
    }
    return (answer.body.startsWith('{') || answer.body.startsWith('[') ? JSON.parse(answer.body) : undefined) as T
  }

  /** The host that leads, as any manager that answers sees it. */
  async leader(): Promise<LabHost> {
    return until('the cluster has a leader', async () => {
      for (const host of this.lab.managers) {
        const nodes = await this.api<NodeObject[]>(host, 'GET', '/nodes').catch(() => [])
        const leader = nodes.find((node) => node.ManagerStatus?.Leader)
        if (leader) return this.lab.host(leader.Description.Hostname)
      }
      return undefined
    })
  }

  /** Waits until all nodes are ready, all managers reachable, and one of them leads. */
  async whole(): Promise<void> {
    await until('all nodes are ready', async () => {
      const nodes = await this.api<NodeObject[]>(await this.leader(), 'GET', '/nodes')
      const managers = nodes.filter((node) => node.ManagerStatus?.Reachability === 'reachable')
      const ready = nodes.filter((node) => node.Status.State === 'ready')
      return ready.length === this.lab.hosts.length && managers.length === this.lab.managers.length
    })
  }

  async killDaemon(host: LabHost): Promise<void> {
    await (this.to === 'engine' ? host.killEngine() : host.killSwarmd())
  }

  async startDaemon(host: LabHost): Promise<void> {
    await (this.to === 'engine' ? host.startEngine() : host.startSwarmd())
  }

  /** What the daemons of all hosts have used of processors since they started. */
  cpuMs(): number {
    return this.lab.hosts.reduce((sum, host) => sum + cpuMsOf(this.#pid(host)), 0)
  }

  /** Resident memory of this host's processes of ours. With Swarm mode it is that of the engine with its Swarm in it. */
  residentMiB(host: LabHost): number {
    const init = host.process('init')?.pid
    const pids = this.to === 'engine' || init === undefined ? [this.#pid(host)] : pidsOf(init, OUR_PROGRAMS)
    return residentKib(pids) / 1024
  }

  /** The highest term that the managers' logs tell of; 0 with Swarm mode, whose logs are not read. */
  raftTerm(): number {
    if (this.to === 'engine') return 0
    const terms = this.lab.managers.flatMap((host) =>
      [...readFileSync(host.paths.swarmdLog, 'utf8').matchAll(RAFT_LEADER_LINE)].map((match) => Number(match[1])),
    )
    return terms.reduce((most, term) => Math.max(most, term), 0)
  }

  #pid(host: LabHost): number {
    const pid = host.process(this.to)?.pid
    if (pid === undefined) throw new Error(`${this.to} does not run on ${host.name}`)
    return pid
  }
}

/** Processes of a host, by its first one, with such a command line. Those of containers have a namespace of their own. */
function pidsOf(initPid: number, program: RegExp): readonly number[] {
  const namespace = readlinkSync(`/proc/${initPid}/ns/pid`)
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        return (
          pid > 0 &&
          readlinkSync(`/proc/${pid}/ns/pid`) === namespace &&
          program.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
        )
      } catch {
        return false // it ended meanwhile
      }
    })
}

/** Pages of files (the programs themselves) are there once for all processes, as they run the same binary. */
function residentKib(pids: readonly number[]): number {
  const read = (pid: number, what: string) =>
    Number(new RegExp(`^${what}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1])
  const own = pids.map((pid) => read(pid, 'RssAnon') + read(pid, 'RssShmem'))
  return own.reduce((sum, kib) => sum + kib, 0) + Math.max(...pids.map((pid) => read(pid, 'RssFile')))
}

function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) * MS_PER_TICK
}

/** Asks until the answer is truthy, which is the result. An error is a "not yet". */
export async function until<T>(what: string, fact: () => Promise<T | undefined | false>): Promise<T> {
  const startedMs = performance.now()
  let last: unknown = 'it was not'
  for (;;) {
    try {
      const value = await fact()
      if (value) return value
    } catch (error) {
      last = error instanceof Error ? error.message : error
    }
    const passedMs = performance.now() - startedMs
    if (passedMs > SETTLE_MS) throw new Error(`not within ${SETTLE_MS / 1000} s: ${what} (${last})`)
    await pause(Math.max(POLL.leastMs, passedMs * POLL.part))
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
