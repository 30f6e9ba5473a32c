// The host's name servers as /etc/resolv.conf has them. It changes while we run (DHCP, VPNs), so it is read again when it is
// used after a while. 127.0.0.53 and the like are right here: swarmd-net asks from the host's namespace.

import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import type { Clock } from '../../lib/clock.ts'

/** As many as the C library uses. */
const SERVERS_MAX = 3
const FRESH_MS = 2000

export class HostNameServers {
  readonly #path: string
  readonly #except: ReadonlySet<string>
  readonly #clock: Clock
  #servers: readonly string[] = []
  #readAtMs = Number.NEGATIVE_INFINITY

  /** @param except addresses that are not to be asked: our own, which would be a circle */
  constructor(options: { readonly path?: string; readonly except: readonly string[]; readonly clock: Clock }) {
    this.#path = options.path ?? '/etc/resolv.conf'
    this.#except = new Set(options.except)
    this.#clock = options.clock
  }

  /** Never throws: without the file there are no servers. */
  async load(): Promise<void> {
    this.#readAtMs = this.#clock.nowMs()
    const text = await readFile(this.#path, 'utf8').catch(() => '')
    this.#servers = nameServersOf(text).filter((server) => !this.#except.has(server))
  }

  /** What was there at most some seconds ago, or when it was last asked for. */
  current(): readonly string[] {
    if (this.#clock.nowMs() - this.#readAtMs > FRESH_MS) void this.load()
    return this.#servers
  }
}

export function nameServersOf(resolvConf: string): readonly string[] {
  const servers = resolvConf
    .split('\n')
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1])
    .filter((server): server is string => server !== undefined && isIP(server) !== 0)
  return [...new Set(servers)].slice(0, SERVERS_MAX)
}
