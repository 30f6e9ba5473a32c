// A container's connection to the resolver: its questions answered as they come (RFC 7766), within bounds of time and number.

import type { Socket } from 'node:net'
import type { Clock, Timer } from '../../lib/clock.ts'
import { FrameReader, frame } from './tcp-frames.ts'

/** Without a question for so long, or with one that does not end, a connection is closed. */
const IDLE_MS = 10_000
/** Questions of one connection that wait for answers; then no more are read. */
const PENDING_MAX = 64

export interface TcpSessionOptions {
  readonly socket: Socket
  readonly clock: Clock
  /** Undefined: the message deserves none. */
  readonly answer: (message: Buffer) => Buffer | undefined | Promise<Buffer | undefined>
}

export function serveTcp({ socket, clock, answer }: TcpSessionOptions): void {
  const frames = new FrameReader()
  let pending = 0
  let ended = false
  let idle: Timer | undefined
  const restart = () => {
    idle?.cancel()
    idle = clock.setTimer(IDLE_MS, () => socket.destroy())
  }
  const settle = (reply: Buffer | undefined) => {
    pending--
    if (socket.destroyed) return
    if (reply) socket.write(frame(reply))
    if (ended && pending === 0) socket.end()
    else if (pending < PENDING_MAX && socket.writableLength < 0x10000) socket.resume()
  }
  restart()
  socket.on('data', (bytes) => {
    const messages = frames.push(bytes)
    if (messages.length > 0) restart()
    pending += messages.length
    for (const message of messages) {
      const reply = answer(message)
      if (reply instanceof Promise) void reply.then(settle)
      else settle(reply)
    }
    if (pending >= PENDING_MAX || socket.writableLength >= 0x10000) socket.pause()
  })
  socket.on('drain', () => {
    if (pending < PENDING_MAX) socket.resume()
  })
  socket.on('end', () => {
    ended = true
    if (pending === 0) socket.end()
  })
  socket.on('error', () => socket.destroy())
  socket.on('close', () => idle?.cancel())
}
