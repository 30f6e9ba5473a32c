// A lock that ends with its process, however that ends: an abstract unix socket. It exists once in a network namespace, and needs no
// room on any disk.

import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { errorCode } from './errors.ts'

/** Of a holder to say who it is. */
const ANSWER_MS = 1_000

export class SocketLock {
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
  }

  /**
   * @param path of the socket, with the zero byte that begins those that are abstract
   * @param holder what `holderOf` tells others
   * @returns undefined: somebody has it
   */
  static async take(path: string, holder = ''): Promise<SocketLock | undefined> {
    const server = createServer((socket) => {
      socket.on('error', () => {})
      socket.end(holder, () => socket.destroy()) // who stays connected keeps no descriptor of the holder's
    })
    try {
      server.listen({ path })
      await once(server, 'listening')
    } catch (error) {
      if (errorCode(error) === 'EADDRINUSE') return undefined
      throw error
    }
    server.unref()
    return new SocketLock(server)
  }

  release(): void {
    this.#server.close()
  }
}

/** Nobody listens, or it has ended before it has answered. */
const GONE: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE'])

/** undefined: nobody has the lock (any more); '' somebody who does not say who it is. */
export async function holderOf(path: string): Promise<string | undefined> {
  const socket = connect({ path })
  const chunks: Buffer[] = []
  socket.setTimeout(ANSWER_MS, () => socket.destroy())
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  try {
    await once(socket, 'connect')
    if (!socket.closed) await once(socket, 'close')
  } catch (error) {
    if (GONE.has(errorCode(error) ?? '')) return undefined
    if (errorCode(error) === 'EAGAIN') return '' // so many have asked it already
    throw error
  }
  return Buffer.concat(chunks).toString()
}
