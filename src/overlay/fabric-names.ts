// The name server of a fabric: comes and goes with it, on sockets that the holder keeps meanwhile.

import type { DataPlaneKey } from '../api/data-plane.ts'
import type { Clock } from '../lib/clock.ts'
import type { Log } from '../lib/log.ts'
import type { Random } from '../lib/random.ts'
import type { DesiredState, LocalAttachment } from './desired-state.ts'
import { DnsServer } from './dns/dns-server.ts'
import { HostNameServers } from './dns/host-name-servers.ts'
import { dropDnsSockets, namespaceId, openDnsSockets } from './dns-sockets.ts'
import type { HolderLink } from './holder-link.ts'
import { DNS_ADDRESS, type FabricConfig, namespacePath } from './kernel/fabric-config.ts'

export interface FabricNamesOptions {
  readonly state: () => DesiredState
  readonly locals: () => Iterable<LocalAttachment>
  readonly holder: HolderLink
  readonly clock: Clock
  readonly random: Random
  readonly log: Log
}

export class FabricNames {
  readonly #options: FabricNamesOptions
  readonly #nameServers: HostNameServers
  #server: DnsServer | undefined
  #namespace = ''

  constructor(options: FabricNamesOptions) {
    this.#options = options
    this.#nameServers = new HostNameServers({ except: [DNS_ADDRESS], clock: options.clock })
  }

  /** To be called before all else. */
  load(): Promise<void> {
    return this.#nameServers.load()
  }

  /** @throws {CodedError} SOCKET_FAILED */
  async open(config: FabricConfig): Promise<void> {
    const { holder, state, locals, clock, random, log } = this.#options
    const namespace = namespacePath(config)
    const { udp, tcp, serve } = await openDnsSockets(holder, namespace, config.dnsAddress)
    const hostNameServers = () => this.#nameServers.current()
    this.#server = new DnsServer({ udp, tcp: [tcp], state, locals, hostNameServers, clock, random, log })
    await serve()
    this.#namespace = await namespaceId(namespace)
  }

  /** A fabric that was made anew is another namespace. */
  async audit(config: FabricConfig): Promise<void> {
    if (this.#server && this.#namespace === (await namespaceId(namespacePath(config)))) return
    this.close()
    await this.open(config)
  }

  /** @param keys of the records that came, changed or went; undefined: any */
  changed(keys: readonly DataPlaneKey[] | undefined): void {
    this.#server?.changed(keys)
  }

  attachmentsChanged(): void {
    this.#server?.attachmentsChanged()
  }

  /** The holder keeps the sockets. */
  close(): void {
    this.#server?.close()
    this.#server = undefined
  }

  /** There is no fabric any more. */
  end(): void {
    this.close()
    dropDnsSockets(this.#options.holder)
  }
}
