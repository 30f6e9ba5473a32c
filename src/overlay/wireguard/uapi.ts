// WireGuard's own configuration protocol for implementations outside the kernel: `key=value` lines over a unix socket
// (wireguard.com/xplatform). Keys are hexadecimal there and base64 everywhere else.

import { connect } from 'node:net'
import type { Clock } from '../../lib/clock.ts'
import { CodedError } from '../../lib/errors.ts'
import type { DeviceChange, ObservedDevice, ObservedPeer } from './plan.ts'

const ANSWER_WITHIN_MS = 3000
/** 4,094 peers at about 300 bytes each, several times over. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024
const NO_KEY = '0'.repeat(64)

export function encodeChanges(changes: readonly DeviceChange[]): string {
  return ['set=1', ...changes.flatMap(linesOf), '', ''].join('\n')
}

function linesOf(change: DeviceChange): readonly string[] {
  switch (change.kind) {
    case 'identity':
      return [`private_key=${hexOf(change.privateKey)}`, `listen_port=${change.port}`]
    case 'remove-peer':
      return [`public_key=${hexOf(change.publicKey)}`, 'remove=true']
    case 'put-peer':
      return [
        `public_key=${hexOf(change.publicKey)}`,
        `endpoint=${change.peer.endpoint}`,
        `persistent_keepalive_interval=${change.peer.keepaliveSeconds}`,
        'replace_allowed_ips=true',
        `allowed_ip=${change.peer.allowedIp}`,
      ]
  }
}

export function decodeDevice(text: string): ObservedDevice {
  let privateKey = ''
  let port = 0
  const peers = new Map<string, ObservedPeer>()
  let current = ''
  const change = (part: Partial<ObservedPeer>) => {
    const peer = peers.get(current)
    if (peer) peers.set(current, { ...peer, ...part })
  }
  for (const line of text.split('\n')) {
    const at = line.indexOf('=')
    const value = line.slice(at + 1)
    switch (line.slice(0, at)) {
      case 'private_key':
        privateKey = value === NO_KEY ? '' : base64Of(value)
        break
      case 'listen_port':
        port = Number(value)
        break
      case 'public_key':
        current = base64Of(value)
        peers.set(current, { endpoint: '', allowedIp: '', keepaliveSeconds: 0, handshakeAt: 0 })
        break
      case 'endpoint':
        change({ endpoint: value })
        break
      case 'allowed_ip':
        // More than one is never ours: joined, they differ from what is wanted.
        change({ allowedIp: [peers.get(current)?.allowedIp, value].filter(Boolean).join(',') })
        break
      case 'persistent_keepalive_interval':
        change({ keepaliveSeconds: Number(value) })
        break
      case 'last_handshake_time_sec':
        change({ handshakeAt: Number(value) })
        break
    }
  }
  return { privateKey, port, peers }
}

/**
 * One request, one answer.
 * @throws {CodedError} WIREGUARD_SILENT nothing answers there; WIREGUARD_REFUSED with the system's error number in `details.errno`.
 */
export async function askUapi(socketPath: string, request: string, clock: Clock): Promise<string> {
  const answer = await new Promise<string>((resolve, reject) => {
    const socket = connect(socketPath)
    const chunks: Buffer[] = []
    let sizeBytes = 0
    const fail = (message: string, cause?: unknown) => {
      timer.cancel()
      socket.destroy()
      reject(new CodedError('WIREGUARD_SILENT', `${socketPath}: ${message}`, { retryable: true, cause }))
    }
    const timer = clock.setTimer(ANSWER_WITHIN_MS, () => fail('no answer in time'))
    socket.on('error', (error) => fail(error.message, error))
    socket.on('close', () => fail('closed without an answer'))
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk)
      sizeBytes += chunk.length
      if (sizeBytes > ANSWER_BYTES_MAX) fail('too long an answer')
      else if (chunk.subarray(-2).equals(END) || (chunk.length < 2 && Buffer.concat(chunks).subarray(-2).equals(END))) {
        timer.cancel()
        socket.removeAllListeners('close')
        socket.destroy()
        resolve(Buffer.concat(chunks).toString('utf8'))
      }
    })
    socket.write(request)
  })
  const errno = Number(/^errno=(-?\d+)$/m.exec(answer)?.[1] ?? 0)
  if (errno !== 0)
    throw new CodedError('WIREGUARD_REFUSED', `WireGuard refused its configuration (error ${errno})`, {
      details: { errno },
    })
  return answer
}

const END = Buffer.from('\n\n')
const hexOf = (base64: string) => Buffer.from(base64, 'base64').toString('hex')
const base64Of = (hex: string) => Buffer.from(hex, 'hex').toString('base64')
