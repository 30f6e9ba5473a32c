// The engine's networks that are this node's part of cluster networks: made when the first container needs them, removed some
// time after the last one has left, since the next is often about to come, and would wait for it. Whoever needs one holds it,
// so that none goes between a container's making and its start.

import { isDeepStrictEqual } from 'node:util'
import type { Clock } from '../../lib/clock.ts'
import { errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { NETWORK_ID_KEY } from '../../overlay/driver-options.ts'
import { taskFailed } from '../executor.ts'
import { TASK_ID_LABEL } from './container-body.ts'
import { type EngineClient, isEngineError } from './engine-client.ts'
import { apiRank } from './engine-features.ts'
import type { LocalNetwork } from './task-networks.ts'

/** What is read of GET /networks and GET /networks/{id}. */
interface EngineNetwork {
  readonly Id: string
  readonly Name: string
  readonly Driver: string
  readonly Labels: Readonly<Record<string, string>> | null
  readonly IPAM: { readonly Config: readonly { readonly Subnet?: string }[] | null }
}

/** What is read of GET /containers/json. */
interface ListedContainer {
  readonly State: string
  readonly Labels: Readonly<Record<string, string>> | null
  readonly NetworkSettings: { readonly Networks: Readonly<Record<string, unknown>> | null } | null
}

const ENDED: ReadonlySet<string> = new Set(['exited', 'dead', 'removing'])

/** Engines before this API version give every network an IPv4 subnet. */
const WITHOUT_IPV4_API = '1.48'

/** The cluster's network may be removed and made again meanwhile: then the part is made anew. */
const KEEP_MS = 15_000

export class LocalNetworks {
  readonly #engine: EngineClient
  readonly #clock: Clock
  readonly #log: Log
  /** Names of networks that are known to be there as they should. */
  readonly #ready = new Map<string, LocalNetwork>()
  /** By name: who needs it. */
  readonly #holders = new Map<string, Set<string>>()
  /** By name: the last thing under way with it. */
  readonly #work = new Map<string, Promise<void>>()
  /** By the engine's id: since when nobody is known to be on it. */
  #unusedSinceMs = new Map<string, number>()

  constructor(engine: EngineClient, { clock, log }: { readonly clock: Clock; readonly log: Log }) {
    this.#engine = engine
    this.#clock = clock
    this.#log = log
  }

  /**
   * Resolves when all are there; they stay until `release` of the same holder.
   * @throws {CodedError} TASK_FAILED, in the engine's words, where one can't be made; ENGINE_UNAVAILABLE
   */
  async hold(holder: string, networks: readonly LocalNetwork[]): Promise<void> {
    for (const { name } of networks) {
      const holders = this.#holders.get(name) ?? new Set()
      this.#holders.set(name, holders.add(holder))
    }
    await Promise.all(networks.map((network) => this.#after(network.name, () => this.#ensure(network))))
  }

  /** @returns whether a network may have become free */
  release(holder: string): boolean {
    let freed = false
    for (const [name, holders] of this.#holders) {
      if (!holders.delete(holder) || holders.size > 0) continue
      this.#holders.delete(name)
      freed = true
    }
    return freed
  }

  /** The engine may have been replaced, or somebody may have removed networks behind our back. */
  forget(): void {
    this.#ready.clear()
  }

  /**
   * Removes what no container has been on, and nobody held, since a sweep `keepMs` ago. Never throws.
   * @returns whether there may be something to remove later
   */
  async sweep({ keepMs = KEEP_MS } = {}): Promise<boolean> {
    try {
      const networks = await this.#ours()
      if (networks.length === 0) return false
      const containers = await this.#engine.json<readonly ListedContainer[]>({
        method: 'GET',
        path: '/containers/json',
        query: { all: true },
      })
      const used = new Set(
        containers
          // A task is started once; what somebody else made may be started again.
          .filter(({ State, Labels }) => !ENDED.has(State) || Labels?.[TASK_ID_LABEL] === undefined)
          .flatMap(({ NetworkSettings }) => Object.keys(NetworkSettings?.Networks ?? {})),
      )
      const nowMs = this.#clock.nowMs()
      const unused = networks.filter(({ Name }) => !used.has(Name) && !this.#holders.has(Name))
      this.#unusedSinceMs = new Map(unused.map(({ Id }) => [Id, this.#unusedSinceMs.get(Id) ?? nowMs]))
      const over = unused.filter(({ Id }) => nowMs - (this.#unusedSinceMs.get(Id) ?? nowMs) >= keepMs)
      await Promise.all(over.map((network) => this.#after(network.Name, () => this.#removeUnheld(network))))
      return over.length < unused.length
    } catch (error) {
      this.#log.debug({ reason: errorMessage(error) }, 'unused networks stay on the engine for now')
      return true
    }
  }

  /** Of the engine's networks that are parts of cluster networks: id of the cluster's by name. */
  async names(): Promise<ReadonlyMap<string, string>> {
    return new Map((await this.#ours()).map(({ Name, Labels }) => [Name, Labels?.[NETWORK_ID_KEY] ?? '']))
  }

  #ours(): Promise<readonly EngineNetwork[]> {
    return this.#engine.json({ method: 'GET', path: '/networks', query: { filters: { label: [NETWORK_ID_KEY] } } })
  }

  /** One thing after the other with the same network. */
  #after(name: string, work: () => Promise<void>): Promise<void> {
    const before = this.#work.get(name) ?? Promise.resolve()
    const done = before.catch(() => {}).then(work) // whoever began it has its error
    this.#work.set(name, done)
    const forget = () => {
      if (this.#work.get(name) === done) this.#work.delete(name)
    }
    done.then(forget, forget)
    return done
  }

  async #ensure(network: LocalNetwork): Promise<void> {
    const ready = this.#ready.get(network.name)
    // A node that joined its cluster again has another block of the ingress network.
    if (ready !== undefined && isDeepStrictEqual(ready, network)) return
    this.#ready.delete(network.name)
    const created = await this.#create(network)
    if (!created) await this.#takeOver(network)
    this.#ready.set(network.name, network)
  }

  /** False: there is one of this name. */
  async #create(network: LocalNetwork): Promise<boolean> {
    if (isWithoutIpv4(network)) await this.#checkVersion(network)
    try {
      await this.#engine.json({ method: 'POST', path: '/networks/create', body: createBody(network) })
      return true
    } catch (error) {
      if (isEngineError(error, 409)) return false
      throw asTaskFailure(error, network)
    }
  }

  async #checkVersion({ name }: LocalNetwork): Promise<void> {
    const version = await this.#engine.apiVersion()
    if (apiRank(version) >= apiRank(WITHOUT_IPV4_API)) return
    throw taskFailed(
      `network ${name} has no IPv4 subnet: it needs a Docker Engine with API ${WITHOUT_IPV4_API} or later: this node's has ${version}`,
    )
  }

  async #takeOver(network: LocalNetwork): Promise<void> {
    const found = (
      await this.#engine.json<readonly EngineNetwork[]>({
        method: 'GET',
        path: '/networks',
        query: { filters: { name: [network.name] } },
      })
    ).find(({ Name }) => Name === network.name)
    const id = found?.Labels?.[NETWORK_ID_KEY]
    if (found === undefined || id === undefined) throw taken(network.name)
    if (id === network.id && isSame(network, found)) return
    // Left over from a network that was removed, while this node was away or before its last task had left.
    await this.#remove(found.Id).catch((error: unknown) => {
      throw asTaskFailure(error, network)
    })
    if (!(await this.#create(network))) throw taken(network.name)
  }

  async #removeUnheld({ Id, Name }: EngineNetwork): Promise<void> {
    if (this.#holders.has(Name)) return
    this.#ready.delete(Name)
    // The engine has the last word: a network with a running container on it stays.
    await this.#remove(Id).catch((error: unknown) => {
      if (!isEngineError(error, 403)) throw error
    })
  }

  async #remove(id: string): Promise<void> {
    try {
      await this.#engine.json({ method: 'DELETE', path: `/networks/${id}` })
    } catch (error) {
      if (!isEngineError(error, 404)) throw error
    }
  }
}

function isWithoutIpv4({ driver, subnets }: LocalNetwork): boolean {
  return driver !== undefined && subnets.every(({ subnet }) => subnet.includes(':'))
}

function createBody(network: LocalNetwork): Readonly<Record<string, unknown>> {
  const { id, name, driver, subnets, options } = network
  return {
    Name: name,
    CheckDuplicate: true,
    Driver: driver ?? 'bridge',
    // Left out where it is on: older engines do not know it.
    ...(isWithoutIpv4(network) && { EnableIPv4: false }),
    EnableIPv6: subnets.some(({ subnet }) => subnet.includes(':')),
    ...(driver !== undefined && {
      IPAM: {
        Driver: driver,
        Options: { [NETWORK_ID_KEY]: id },
        Config: subnets.map(({ subnet, gateway }) => ({ Subnet: subnet, Gateway: gateway })),
      },
    }),
    Options: options,
    Labels: { [NETWORK_ID_KEY]: id },
  }
}

function isSame(network: LocalNetwork, found: EngineNetwork): boolean {
  if (found.Driver !== (network.driver ?? 'bridge')) return false
  if (network.driver === undefined) return true
  const there = new Set((found.IPAM.Config ?? []).map(({ Subnet }) => Subnet))
  return there.size === network.subnets.length && network.subnets.every(({ subnet }) => there.has(subnet))
}

/** The engine's own words for the name of a network that there is already. */
function taken(name: string) {
  return taskFailed(
    `network with name ${name} already exists: this node's engine has a network of its own by the name of the cluster's`,
  )
}

function asTaskFailure(error: unknown, { name }: LocalNetwork): unknown {
  return isEngineError(error, 400) ||
    isEngineError(error, 403) ||
    isEngineError(error, 404) ||
    isEngineError(error, 500)
    ? taskFailed(`network ${name}: ${errorMessage(error)}`, error)
    : error
}
