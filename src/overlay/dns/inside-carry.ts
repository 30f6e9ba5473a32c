// Asks name servers that are containers of the cluster themselves. Only the fabric has a way to them, and the only socket there is
// the one that containers ask: it sends these questions as well, and gives us the answers that arrive on it.

import type dgram from 'node:dgram'
import { plainAddress } from './askers.ts'
import type { Carry } from './lookup.ts'

export class InsideCarry {
  readonly #send: (packet: Buffer, address: string) => void
  /** by the server's address */
  readonly #waiting = new Map<string, Set<(message: Buffer) => void>>()

  constructor(options: { readonly socket: dgram.Socket | undefined; readonly port: number }) {
    const { socket, port } = options
    this.#send = (packet, address) => socket?.send(packet, port, address)
  }

  readonly udp: Carry = ({ address }, packet, on) => {
    const key = plainAddress(address)
    const waiting = this.#waiting.get(key) ?? new Set()
    this.#waiting.set(key, waiting)
    waiting.add(on.message)
    this.#send(packet, address)
    return () => {
      waiting.delete(on.message)
      if (waiting.size === 0 && this.#waiting.get(key) === waiting) this.#waiting.delete(key)
    }
  }

  /** There is no way to connect from the fabric: an answer that is too long for a packet is none. */
  readonly tcp: Carry = (_server, _packet, on) => {
    on.error(new Error('no connections to name servers inside'))
    return () => {}
  }

  /** An answer has come; each lookup knows whether it is its own. */
  deliver(address: string, message: Buffer): void {
    for (const take of this.#waiting.get(plainAddress(address)) ?? []) take(message)
  }
}
