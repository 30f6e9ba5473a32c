/**
 * The leader's daemon killed, and its cable cut, until one of the managers that are left has acknowledged a write; and how often
 * leadership changed while nothing was wrong.
 */
import { setMaxListeners } from 'node:events'
import { callApi } from '../lab/engine-api.ts'
import { type BenchCluster, pause } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sides, Values } from './measure.ts'
import { removeServices, serviceSpec } from './services.ts'

/** A new attempt so often, whether or not earlier ones have ended: a request that hangs hides no success. */
const ATTEMPTS = {
  kill: { everyMs: 20, pendingMax: 60 },
  // who waits for a silent leader keeps a request for long
  cut: { everyMs: 50, pendingMax: 600 },
} as const
const DEADLINE_MS = 60_000
const SETTLE_MS = 1000
const KILLS = { ours: 20, theirs: 3 } as const
const CUTS = 3
const TARGET_KILL = { median: 0.5, worst: 1.5 } as const
const TARGET_CUT = { worst: 3 } as const

type Attempts = (typeof ATTEMPTS)[keyof typeof ATTEMPTS]

/** Creates services, on each of `sockets` in turn, until one is acknowledged. */
async function firstWriteMs(sockets: readonly string[], attemptPrefix: string, attempts: Attempts): Promise<number> {
  const startedMs = performance.now()
  const stop = new AbortController()
  setMaxListeners(attempts.pendingMax * 2, stop.signal)
  let tookMs: number | undefined
  let pending = 0
  const attempt = async (number: number): Promise<void> => {
    pending++
    try {
      const body = serviceSpec(`${attemptPrefix}${number}`, { replicas: 0 })
      const socketPath = sockets[number % sockets.length] ?? ''
      const call = { method: 'POST', path: '/services/create', body, signal: stop.signal }
      if ((await callApi(socketPath, call)).status === 201) tookMs ??= performance.now() - startedMs
    } catch {
      // a daemon that refuses, or an attempt given up
    } finally {
      pending--
    }
  }
  for (let number = 0; tookMs === undefined; number++) {
    if (performance.now() - startedMs > DEADLINE_MS) throw new Error(`no write within ${DEADLINE_MS / 1000} s`)
    if (pending < attempts.pendingMax) void attempt(number)
    await pause(attempts.everyMs)
  }
  stop.abort()
  return tookMs
}

async function failed(cluster: BenchCluster, how: 'kill' | 'cut', prefix: string): Promise<number> {
  const leader = await cluster.leader()
  const sockets = cluster.lab.managers.filter((host) => host !== leader).map((host) => cluster.socket(host))
  // asked for beforehand: the signal is what starts the clock, not the bookkeeping around it
  const done = how === 'kill' ? cluster.killDaemon(leader) : cluster.lab.cut(leader.name)
  const tookMs = await firstWriteMs(sockets, prefix, ATTEMPTS[how])
  await done
  await (how === 'kill' ? cluster.startDaemon(leader) : cluster.lab.heal(leader.name))
  await cluster.whole()
  await removeServices(cluster)
  await pause(SETTLE_MS)
  return tookMs
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const killed = new Values()
  const cut = new Values()
  const measure = async (cluster: BenchCluster, how: 'kill' | 'cut', prefix: string): Promise<void> => {
    const seconds = (await failed(cluster, how, prefix)) / 1000
    ;(how === 'kill' ? killed : cut).add(cluster.title, seconds)
    bench.say(
      `${cluster.title}, leader ${how === 'kill' ? 'killed' : 'cut off'}: ${seconds.toFixed(2)} s until a write`,
    )
  }
  // silence is waited for, not worked through: both sides at once
  for (const round of rounds(bench, bench.quick ? 1 : CUTS)) {
    await Promise.all(sides(bench, round).map((cluster) => measure(cluster, 'cut', `c${round}-`)))
  }
  const kills = bench.quick ? { ours: 3, theirs: 1 } : { ours: Math.max(bench.runs, KILLS.ours), theirs: KILLS.theirs }
  for (const round of rounds(bench, kills.ours)) {
    for (const cluster of sides(bench, round)) {
      if (cluster === bench.ours || round < kills.theirs) await measure(cluster, 'kill', `f${round}-`)
    }
  }
  const about = { unit: 's', better: 'lower' } as const
  return [
    killed.figure(bench, { ...about, name: 'leader SIGKILL → a write acknowledged', limit: TARGET_KILL }),
    cut.figure(bench, { ...about, name: "leader's links cut → a write acknowledged", limit: TARGET_CUT }),
  ]
}

export const failover: Measure = { name: 'failover', minutes: 3, run }
