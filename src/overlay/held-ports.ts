// Published ports, really held on this node: a listening socket for each, so that other programs get EADDRINUSE and `ss` shows it: on
// every address, or on those of this node that the port is for. The host's nft rules lead traffic away before it gets to them. What
// another program holds already is not served by this node, and the report says who it is.

import { ADDRESS_NOT_HERE, type DataPathProblem } from '../api/data-plane.ts'
import { addressAndPort, addressesHere, type NodeAddress } from '../api/publish-addresses.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { Turns } from '../lib/turns.ts'
import { type Held, PortSockets } from './port-sockets.ts'
import type { PortsHere } from './rules/published-ports.ts'

export interface HostPort {
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly port: number
  /** Addresses, subnets and interfaces that it is for; absent or empty: every address. */
  readonly addresses?: readonly string[]
}

/** `8080/tcp`, as problems and rules name ports */
export function hostPortKey({ protocol, port }: HostPort): string {
  return `${port}/${protocol}`
}

/** A port on one address, or on every one (''). */
interface Place {
  readonly key: string
  readonly port: HostPort
  readonly address: string
}

interface Claim {
  readonly owner: string
  readonly port: HostPort
  /** By place. */
  readonly held: Map<string, Held>
}

export interface HeldPortsOptions {
  /** Who has a port: a program's name and process id, for people; '' where nobody can say. */
  readonly ownerOf: (port: HostPort, address: string) => Promise<string>
  /** Of this node, as they are now. */
  readonly addresses: () => readonly NodeAddress[]
  readonly log: Log
}

export class HeldPorts {
  readonly #options: HeldPortsOptions
  readonly #sockets: PortSockets
  /** By place, as are the problems. */
  readonly #held = new Map<string, Held & { readonly place: Place }>()
  readonly #problems = new Map<string, DataPathProblem>()
  /** Ports of the last `set` that are not for every address. */
  #addressed: readonly string[] = []
  /** Ports of single containers, by key. */
  readonly #claims = new Map<string, Claim>()
  readonly #turns = new Turns()

  constructor(options: HeldPortsOptions) {
    this.#options = options
    this.#sockets = new PortSockets(options.log)
  }

  /** What is served of the last `set` and of what is claimed. */
  get here(): PortsHere {
    const at = new Map<string, string[]>(this.#addressed.map((key) => [key, []]))
    for (const { place } of this.#held.values()) at.get(hostPortKey(place.port))?.push(place.address)
    for (const [key, { port, held }] of this.#claims) {
      if (isAddressed(port)) at.set(key, [...held.keys()].map(addressOf))
    }
    const taken = [...this.#problems.values()].map(({ subject }) => subject).filter((key) => !at.has(key))
    return { taken: new Set(taken), at }
  }

  get problems(): readonly DataPathProblem[] {
    return [...this.#problems.values(), ...this.#unheld()]
  }

  /**
   * Holds exactly these, as far as they can be had, and what is claimed, on the addresses that the node has now. Never throws; answers
   * whether `here` or `problems` have changed. Ports that were taken are tried again.
   */
  set(ports: readonly HostPort[]): Promise<boolean> {
    return this.#turns.take(() => this.#set(ports))
  }

  /**
   * Holds ports for one container (`mode=host`) until `release`. All or none.
   * @throws {CodedError} PORT_TAKEN in the engine's words
   */
  claim(owner: string, ports: readonly HostPort[]): Promise<void> {
    return this.#turns.take(() => this.#claim(owner, ports))
  }

  /** What is being opened for it is closed, too. */
  release(owner: string): Promise<void> {
    return this.#turns.take(async () => this.#release(owner))
  }

  #release(owner: string): void {
    for (const [key, claim] of this.#claims) {
      if (claim.owner !== owner) continue
      for (const held of claim.held.values()) held.close()
      this.#claims.delete(key)
    }
  }

  close(): void {
    for (const held of this.#held.values()) held.close()
    for (const { owner } of [...this.#claims.values()]) this.#release(owner)
    this.#held.clear()
    this.#sockets.close()
  }

  async #claim(owner: string, ports: readonly HostPort[]): Promise<void> {
    for (const port of ports) {
      const key = hostPortKey(port)
      if (this.#claims.get(key)?.owner === owner) continue
      const isHeld = [...this.#held.values()].some(({ place }) => hostPortKey(place.port) === key)
      if (isHeld || this.#claims.has(key)) {
        this.#release(owner)
        throw new CodedError('PORT_TAKEN', `Bind for 0.0.0.0:${port.port} failed: port is already allocated`)
      }
      const places = this.#placesOf(port)
      if (places.length === 0) {
        this.#release(owner)
        throw new CodedError('PORT_TAKEN', notHere(port))
      }
      const held = new Map<string, Held>()
      this.#claims.set(key, { owner, port, held })
      for (const place of places) await this.#open(place, held, owner)
    }
  }

  async #open(place: Place, held: Map<string, Held>, owner: string): Promise<void> {
    const { port, address } = place
    try {
      held.set(place.key, await this.#sockets.open(place.port, place.address))
    } catch (error) {
      this.#release(owner)
      if (errorCode(error) !== 'EADDRINUSE') throw error
      const by = await this.#options.ownerOf(port, address)
      const where = addressAndPort(address || '0.0.0.0', port.port)
      const reason = `listen ${port.protocol} ${where}: bind: address already in use`
      throw new CodedError('PORT_TAKEN', by ? `${reason} (by ${by})` : reason)
    }
  }

  async #set(ports: readonly HostPort[]): Promise<boolean> {
    const before = this.#fingerprint()
    this.#addressed = ports.filter(isAddressed).map(hostPortKey)
    const wanted = new Map(ports.flatMap((port) => this.#placesOf(port)).map((place) => [place.key, place]))
    const absent = [...ports, ...[...this.#claims.values()].map(({ port }) => port)]
      .filter((port) => this.#placesOf(port).length === 0)
      .map((port): readonly [string, HostPort] => [`none:${hostPortKey(port)}`, port])
    for (const [key, held] of this.#held) {
      if (wanted.has(key)) continue
      held.close()
      this.#held.delete(key)
    }
    const absentKeys = new Set(absent.map(([key]) => key))
    for (const key of this.#problems.keys()) {
      if (!wanted.has(key) && !absentKeys.has(key)) this.#problems.delete(key)
    }
    for (const [key, port] of absent) {
      this.#problems.set(key, { code: ADDRESS_NOT_HERE, message: notHere(port), subject: hostPortKey(port) })
    }
    for (const place of wanted.values()) if (!this.#held.has(place.key)) await this.#hold(place)
    for (const claim of this.#claims.values()) if (isAddressed(claim.port)) await this.#follow(claim)
    return before !== this.#fingerprint()
  }

  /** The node's addresses have changed under a container that runs. */
  async #follow({ port, held }: Claim): Promise<void> {
    const places = new Map(this.#placesOf(port).map((place) => [place.key, place]))
    for (const [key, one] of held) {
      if (places.has(key)) continue
      one.close()
      held.delete(key)
    }
    for (const [key, place] of places) {
      if (held.has(key)) continue
      try {
        held.set(key, await this.#sockets.open(place.port, place.address))
      } catch (error) {
        this.#options.log.debug({ place: key, reason: errorMessage(error) }, 'a host-mode port is not held')
      }
    }
  }

  async #hold(place: Place): Promise<void> {
    const { key, port, address } = place
    try {
      this.#held.set(key, { ...(await this.#sockets.open(place.port, place.address)), place })
      if (this.#problems.delete(key)) this.#options.log.info({ port: key }, 'a published port is served here again')
    } catch (error) {
      if (this.#problems.has(key)) return
      const inUse = errorCode(error) === 'EADDRINUSE'
      const isClaimed = this.#claims.has(hostPortKey(port))
      const owner = isClaimed ? 'a container' : inUse ? await this.#options.ownerOf(port, address) : ''
      const reason = inUse ? `in use on this node${owner && ` by ${owner}`}` : `not to be had: ${errorMessage(error)}`
      const message = `published port ${key} is ${reason}; this node does not serve it`
      this.#problems.set(key, { code: 'PORT_IN_USE', message, subject: hostPortKey(port) })
      this.#options.log.warn({ port: key, owner }, 'a published port is in use on this node')
    }
  }

  #placesOf(port: HostPort): readonly Place[] {
    if (!isAddressed(port)) return [{ key: hostPortKey(port), port, address: '' }]
    return addressesHere(port.addresses ?? [], this.#options.addresses()).map((address) => ({
      key: `${addressAndPort(address, port.port)}/${port.protocol}`,
      port,
      address,
    }))
  }

  /** Served all the same: only others are not kept from taking it. */
  #unheld(): readonly DataPathProblem[] {
    return [...this.#held].flatMap(([key, { place, unheld }]) => {
      const message = `published port ${key} is served on this node, but no socket holds it: ${unheld}`
      return unheld === undefined ? [] : [{ code: 'PORT_NOT_HELD', message, subject: hostPortKey(place.port) }]
    })
  }

  #fingerprint(): string {
    const { taken, at } = this.here
    const places = [...at].map(([key, addresses]) => `${key}=${addresses.toSorted().join()}`)
    const unheld = this.#unheld().map(({ message }) => message)
    return [...this.#problems.keys(), '|', ...taken, '|', ...places, '|', ...unheld].sort().join(' ')
  }
}

function isAddressed({ addresses = [] }: HostPort): boolean {
  return addresses.length > 0
}

/** Of the key of a place that has one. */
function addressOf(key: string): string {
  return key.slice(0, key.lastIndexOf(':')).replace(/^\[(.*)\]$/, '$1')
}

function notHere(port: HostPort): string {
  const wanted = (port.addresses ?? []).join(', ')
  return `published port ${hostPortKey(port)} is for ${wanted}, which this node does not have; this node does not serve it`
}
