// The name server's sockets inside the fabric: opened there once, held by the holder, served from here.

import type { Socket as UdpSocket } from 'node:dgram'
import { stat } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { CodedError } from '../lib/errors.ts'
import type { HolderLink } from './holder-link.ts'
import { DNS_TCP_SOCKET, DNS_UDP_SOCKET } from './holder-protocol.ts'
import { type RawHandle, readFrom, type SocketSpec, serveFrom } from './raw-socket.ts'

export interface DnsSockets {
  /** The one of `address`, and one of all others: a socket answers with the address that it is bound to. */
  readonly udp: readonly UdpSocket[]
  readonly tcp: Server
  /** To be called when somebody listens to the events of the sockets. */
  readonly serve: () => Promise<void>
}

const PORT = 53

/** Tells network namespaces apart, also of one name. @throws system errors */
export async function namespaceId(path: string): Promise<string> {
  return String((await stat(path)).ino)
}

/**
 * Names of held sockets tell their namespace, so that those of a fabric that is no more are not taken.
 * @throws {CodedError} SOCKET_FAILED
 */
export async function openDnsSockets(holder: HolderLink, namespace: string, address: string): Promise<DnsSockets> {
  const id = await namespaceId(namespace)
  const own = `${DNS_UDP_SOCKET}-own@${id}`
  const any = `${DNS_UDP_SOCKET}-any@${id}`
  const stream = `${DNS_TCP_SOCKET}@${id}`
  const specs: readonly SocketSpec[] = [
    { kind: 'udp', name: own, host: address, port: PORT },
    { kind: 'udp', name: any, host: '0.0.0.0', port: PORT },
    { kind: 'tcp', name: stream, host: '0.0.0.0', port: PORT },
  ]
  // what the holder has of another fabric would keep that one alive for ever
  const wanted = new Set(specs.map(({ name }) => name))
  holder.drop(dnsNames(holder).filter((name) => !wanted.has(name)))
  const missing = specs.filter(({ name }) => !holder.socket(name))
  if (missing.length > 0) await holder.open(namespace, missing)
  const handle = (name: string): RawHandle => {
    const found = holder.socket(name)
    if (!found) throw new CodedError('SOCKET_FAILED', `${name} was not opened`)
    return found
  }
  const tcp = createServer({ allowHalfOpen: true })
  return {
    udp: [await readFrom(handle(own), 'udp4'), await readFrom(handle(any), 'udp4')],
    tcp,
    serve: () => serveFrom(tcp, handle(stream)),
  }
}

/** There is no fabric any more. */
export function dropDnsSockets(holder: HolderLink): void {
  holder.drop(dnsNames(holder))
}

function dnsNames(holder: HolderLink): readonly string[] {
  return holder.names.filter((name) => name.startsWith(DNS_UDP_SOCKET) || name.startsWith(DNS_TCP_SOCKET))
}
