// Serves one stream that a manager asked for, on a /bulk connection of its own: data only against credit, so that a
// slow reader stops the source and nothing else.

import type { Duplex } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { DISPATCHER_PROTOCOL_VERSION, type StreamFrame } from '../api/dispatcher.ts'
import { Tunnel } from '../api/tunnel.ts'
import { decode, encode } from '../lib/codec.ts'
import type { Connection } from '../lib/connection.ts'
import { errorCode, errorMessage } from '../lib/errors.ts'

const FRAME_BYTES_MAX = 64 * 1024

/** Until the source ends, the manager ends it, the connection breaks or `signal` aborts. Never throws. */
export async function serveStream(
  connection: Connection,
  streamId: string,
  source: (signal: AbortSignal) => AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): Promise<void> {
  const stopped = new AbortController()
  const stop = () => stopped.abort()
  if (signal.aborted) stop()
  else signal.addEventListener('abort', stop, { once: true })
  let creditBytes = 0
  let wake = () => {}
  stopped.signal.addEventListener('abort', () => wake(), { once: true })
  const send = (frame: StreamFrame) => connection.send(encode([DISPATCHER_PROTOCOL_VERSION, frame]))
  connection.listen({
    onMessage: (bytes) => {
      const frame = parse(bytes)
      if (frame?.kind === 'credit') {
        creditBytes += frame.bytes
        wake()
      } else stop()
    },
    onClose: stop,
  })
  try {
    send({ kind: 'open', streamId })
    for await (const chunk of source(stopped.signal)) {
      for (let at = 0; at < chunk.length && !stopped.signal.aborted; ) {
        if (creditBytes <= 0) {
          await new Promise<void>((resolve) => {
            wake = resolve
          })
          continue
        }
        const data = chunk.subarray(at, at + Math.min(FRAME_BYTES_MAX, creditBytes))
        creditBytes -= data.length
        at += data.length
        send({ kind: 'data', data })
      }
      if (stopped.signal.aborted) break
    }
    if (!stopped.signal.aborted) send({ kind: 'end' })
  } catch (error) {
    if (!stopped.signal.aborted) {
      try {
        send({ kind: 'error', code: errorCode(error) ?? 'STREAM_FAILED', message: errorMessage(error) })
      } catch {
        // The connection is gone: its other end knows.
      }
    }
  } finally {
    signal.removeEventListener('abort', stop)
    connection.close()
  }
}

/** Joins a manager's stream to a connection of this node's, until both ends have ended. Never throws. */
export async function serveTunnel(
  connection: Connection,
  streamId: string,
  dial: () => Promise<Duplex>,
  signal: AbortSignal,
): Promise<void> {
  const send = (frame: StreamFrame) => connection.send(encode([DISPATCHER_PROTOCOL_VERSION, frame]))
  const early: StreamFrame[] = []
  let tunnel: Tunnel | undefined
  let isLost = false
  connection.listen({
    onMessage: (bytes) => {
      const frame = parse(bytes)
      if (!frame) connection.close()
      else if (tunnel) tunnel.receive(frame)
      else early.push(frame)
    },
    onClose: () => {
      isLost = true
      tunnel?.lost()
    },
  })
  try {
    send({ kind: 'open', streamId })
    const local = await dial()
    tunnel = new Tunnel({ send, close: () => connection.close() })
    for (const frame of early) tunnel.receive(frame)
    if (isLost) tunnel.lost()
    await spliced(tunnel, local, signal)
  } catch (error) {
    if (isLost) return
    try {
      send({ kind: 'error', code: errorCode(error) ?? 'STREAM_FAILED', message: errorMessage(error) })
    } catch {
      // The connection is gone: its other end knows.
    }
    connection.close()
  }
}

/** Each side may end its half alone; when one is gone, so is the other. */
async function spliced(one: Duplex, other: Duplex, signal: AbortSignal): Promise<void> {
  const drop = () => {
    one.destroy()
    other.destroy()
  }
  signal.addEventListener('abort', drop, { once: true })
  try {
    await Promise.allSettled([pipeline(one, other), pipeline(other, one)])
  } finally {
    signal.removeEventListener('abort', drop)
  }
}

function parse(bytes: Uint8Array): StreamFrame | undefined {
  try {
    const frame = decode(bytes)
    return Array.isArray(frame) && frame[0] === DISPATCHER_PROTOCOL_VERSION ? (frame[1] as StreamFrame) : undefined
  } catch {
    return undefined
  }
}
