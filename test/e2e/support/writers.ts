/** Clients that write all the time, and remember what was acknowledged: for tests that make faults under them. */
import { setTimeout as delay } from 'node:timers/promises'
import { callApi } from '../../../lab/engine-api.ts'
import type { LabHost } from '../../../lab/lab-host.ts'
import type { Cluster } from './cluster.ts'

/** One write, from a client's side. */
export interface Attempt {
  readonly host: string
  /** As `performance.now()` has it. */
  readonly startMs: number
  readonly endMs: number
  /** 0 where the connection broke or nobody listened. */
  readonly status: number
  /** What the answer said where it was an error. */
  readonly message: string
}

export interface Writers {
  /** Names of the secrets whose creation was acknowledged, with the id that the answer gave. */
  readonly acknowledged: ReadonlyMap<string, string>
  /** Every answer so far, in the order in which they came. */
  readonly attempts: readonly Attempt[]
  /** Resolves once `count` more were. @throws if writes stand still until the deadline */
  more(count: number, deadlineMs: number): Promise<void>
  /** @returns the longest time between two acknowledgements */
  stop(): Promise<number>
}

/** Each writer creates one secret after the other, never one name twice, through its own of `hosts`. */
export function startWriters(hosts: readonly LabHost[], prefix: string, count = 3): Writers {
  const acknowledged = new Map<string, string>()
  const attempts: Attempt[] = []
  let stopped = false
  let lastMs = performance.now()
  let longestMs = 0
  const write = async (writer: number): Promise<void> => {
    const host = hosts[writer % hosts.length]
    if (!host) throw new Error('writers need hosts')
    for (let number = 0; !stopped; number++) {
      const Name = `${prefix}-${writer}-${number}`
      const startMs = performance.now()
      const ended = (status: number, message: string): number =>
        attempts.push({ host: host.name, startMs, endMs: performance.now(), status, message })
      try {
        const body = { Name, Data: 'eA==' }
        const answer = await callApi(host.paths.swarmdSocket, { method: 'POST', path: '/secrets/create', body })
        ended(answer.status, answer.status === 201 ? '' : (JSON.parse(answer.body) as { message: string }).message)
        if (answer.status !== 201) continue
        acknowledged.set(Name, (JSON.parse(answer.body) as { ID: string }).ID)
        longestMs = Math.max(longestMs, performance.now() - lastMs)
        lastMs = performance.now()
      } catch (error) {
        ended(0, error instanceof Error ? error.message : String(error))
        await delay(20) // its swarmd is gone: whether this one was written is not known
      }
    }
  }
  const ended = Promise.all(Array.from({ length: count }, (_, writer) => write(writer)))
  return {
    acknowledged,
    attempts,
    more: async (more, deadlineMs) => {
      const target = acknowledged.size + more
      const expires = performance.now() + deadlineMs
      while (acknowledged.size < target) {
        if (performance.now() > expires) throw new Error(`writes stand still at ${acknowledged.size}`)
        await delay(10)
      }
    },
    stop: async () => {
      stopped = true
      await ended
      return longestMs
    },
  }
}

/** Ids of the secrets of `prefix`, by name, as `asked` has them. */
export async function storedSecrets(
  cluster: Cluster,
  asked: LabHost,
  prefix: string,
): Promise<ReadonlyMap<string, string>> {
  const all = await cluster.api<{ ID: string; Spec: { Name: string } }[]>(asked, 'GET', '/secrets')
  return new Map(all.filter(({ Spec }) => Spec.Name.startsWith(prefix)).map(({ ID, Spec }) => [Spec.Name, ID]))
}

/** What clients of each host saw between two moments: how many writes went well, and each error with when it came. */
export function whatWasSeen(attempts: readonly Attempt[], fromMs: number, toMs = Infinity): readonly string[] {
  const within = attempts.filter(({ startMs, endMs }) => endMs >= fromMs && startMs <= toMs)
  const seconds = (ms: number) => (ms / 1_000).toFixed(1)
  return [...new Set(within.map(({ host }) => host))].toSorted().map((host) => {
    const own = within.filter((each) => each.host === host)
    const refused = own.filter(({ status }) => status !== 201)
    const slowestMs = Math.max(
      0,
      ...own.filter(({ status }) => status === 201).map((each) => each.endMs - each.startMs),
    )
    const errors = [...new Set(refused.map(({ message }) => message))].map((message) => {
      const those = refused.filter((each) => each.message === message)
      const waits = those.map(({ startMs, endMs }) => endMs - startMs)
      return `${those.length} refused after ${seconds(Math.min(...waits))} to ${seconds(Math.max(...waits))} s: ${message}`
    })
    return [`${host}: ${own.length - refused.length} writes, the slowest ${seconds(slowestMs)} s`, ...errors].join('; ')
  })
}
