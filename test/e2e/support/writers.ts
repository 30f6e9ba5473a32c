/** Clients that write all the time, and remember what was acknowledged: for tests that make faults under them. */
import { setTimeout as delay } from 'node:timers/promises'
import { callApi } from '../../../lab/engine-api.ts'
import type { LabHost } from '../../../lab/lab-host.ts'
import type { Cluster } from './cluster.ts'

export interface Writers {
  /** Names of the secrets whose creation was acknowledged, with the id that the answer gave. */
  readonly acknowledged: ReadonlyMap<string, string>
  /** Resolves once `count` more were. @throws if writes stand still until the deadline */
  more(count: number, deadlineMs: number): Promise<void>
  /** @returns the longest time between two acknowledgements */
  stop(): Promise<number>
}

/** Each writer creates one secret after the other, never one name twice, through its own of `hosts`. */
export function startWriters(hosts: readonly LabHost[], prefix: string, count = 3): Writers {
  const acknowledged = new Map<string, string>()
  let stopped = false
  let lastMs = performance.now()
  let longestMs = 0
  const write = async (writer: number): Promise<void> => {
    const host = hosts[writer % hosts.length]
    if (!host) throw new Error('writers need hosts')
    for (let number = 0; !stopped; number++) {
      const Name = `${prefix}-${writer}-${number}`
      try {
        const body = { Name, Data: 'eA==' }
        const answer = await callApi(host.paths.swarmdSocket, { method: 'POST', path: '/secrets/create', body })
        if (answer.status !== 201) continue
        acknowledged.set(Name, (JSON.parse(answer.body) as { ID: string }).ID)
        longestMs = Math.max(longestMs, performance.now() - lastMs)
        lastMs = performance.now()
      } catch {
        await delay(20) // its swarmd is gone: whether this one was written is not known
      }
    }
  }
  const ended = Promise.all(Array.from({ length: count }, (_, writer) => write(writer)))
  return {
    acknowledged,
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
