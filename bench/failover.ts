/** SIGKILL of the leader's daemon until one of the managers that are left has acknowledged a write. */
import { setMaxListeners } from 'node:events'
import { callApi } from '../lab/engine-api.ts'
import { type BenchCluster, pause } from './bench-cluster.ts'
import { type Bench, type Figure, type Measure, rounds, sides, Values } from './measure.ts'
import { removeServices, serviceSpec } from './services.ts'

/** A new attempt so often, whether or not earlier ones have ended: a request that hangs hides no success. */
const ATTEMPT_EVERY_MS = 20
const PENDING_MAX = 60
const DEADLINE_MS = 60_000
const SETTLE_MS = 1000
const TARGET = 0.25

/** Creates services, on each of `sockets` in turn, until one is acknowledged. */
async function firstWriteMs(sockets: readonly string[], attemptPrefix: string): Promise<number> {
  const startedMs = performance.now()
  const stop = new AbortController()
  setMaxListeners(PENDING_MAX * 2, stop.signal)
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
    if (pending < PENDING_MAX) void attempt(number)
    await pause(ATTEMPT_EVERY_MS)
  }
  stop.abort()
  return tookMs
}

async function failed(cluster: BenchCluster, round: number): Promise<number> {
  const leader = await cluster.leader()
  const sockets = cluster.lab.managers.filter((host) => host !== leader).map((host) => cluster.socket(host))
  // asked for beforehand: the signal is what starts the clock, not the bookkeeping around it
  const killed = cluster.killDaemon(leader)
  const tookMs = await firstWriteMs(sockets, `f${round}-`)
  await killed
  await cluster.startDaemon(leader)
  await cluster.whole()
  await removeServices(cluster)
  await pause(SETTLE_MS)
  return tookMs
}

async function run(bench: Bench): Promise<readonly Figure[]> {
  const values = new Values()
  const wanted = bench.quick
    ? { ours: 3, theirs: 1 }
    : { ours: Math.max(bench.runs, 10), theirs: Math.min(bench.runs, 3) }
  for (const round of rounds(bench, wanted.ours)) {
    for (const cluster of sides(bench, round)) {
      if (cluster === bench.theirs && round >= wanted.theirs) continue
      const seconds = (await failed(cluster, round)) / 1000
      values.add(cluster.title, seconds)
      bench.say(`${cluster.title}, leader killed: ${seconds.toFixed(2)} s until a write`)
    }
  }
  return [
    values.figure(bench, { name: 'leader SIGKILL → a write acknowledged', unit: 's', better: 'lower', target: TARGET }),
  ]
}

export const failover: Measure = { name: 'failover', minutes: 3, run }
