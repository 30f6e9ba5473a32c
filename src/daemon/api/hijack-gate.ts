// Old clients take over a connection without saying `Upgrade`: they POST to attach or exec-start and go on sending raw
// input behind the request. Node's HTTP server can't give such a connection back, so new connections are looked at first.

import type { Duplex } from 'node:stream'

const MAX_HEAD_BYTES = 16 * 1024
const TAKES_OVER = /^POST (\S*\/(?:containers\/[^/\s]+\/attach|exec\/[^/\s]+\/start))(?=[?\s])\S* HTTP\/1\.1\r\n/

function mayTakeOver(head: string): 'no' | 'yes' | 'unclear' {
  const start = 'POST '
  if (!head.startsWith(start.slice(0, head.length))) return 'no'
  const lineEnd = head.indexOf('\r\n')
  if (lineEnd < 0) return head.length < MAX_HEAD_BYTES ? 'unclear' : 'no'
  if (!TAKES_OVER.test(head)) return 'no'
  const headEnd = head.indexOf('\r\n\r\n')
  if (headEnd < 0) return head.length < MAX_HEAD_BYTES ? 'unclear' : 'no'
  const lines = head.slice(0, headEnd).split('\r\n').slice(1)
  // What says `Upgrade` comes by Node's own way.
  return lines.some((line) => /^upgrade\s*:/i.test(line)) ? 'no' : 'yes'
}

/**
 * Calls `takeOver` with the bytes read so far for a connection that begins with such a request, `serve` with any other
 * (with its bytes put back).
 */
export function gate(
  socket: Duplex,
  handlers: { readonly serve: (socket: Duplex) => void; readonly takeOver: (socket: Duplex, head: Buffer) => void },
): void {
  let seen: Buffer = Buffer.alloc(0)
  const stop = () => {
    socket.off('readable', look)
    socket.off('end', ended)
    socket.off('error', ended)
  }
  const ended = () => {
    stop()
    socket.destroy()
  }
  const look = () => {
    for (let chunk = socket.read() as Buffer | null; chunk !== null; chunk = socket.read() as Buffer | null) {
      seen = Buffer.concat([seen, chunk])
    }
    if (seen.length === 0) return
    const verdict = mayTakeOver(seen.toString('latin1'))
    if (verdict === 'unclear') return
    stop()
    if (verdict === 'yes') handlers.takeOver(socket, seen)
    else {
      socket.unshift(seen)
      handlers.serve(socket)
    }
  }
  socket.on('readable', look)
  socket.on('end', ended)
  socket.on('error', ended)
}
