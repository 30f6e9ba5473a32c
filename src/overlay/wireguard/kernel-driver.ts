// The kernel's own WireGuard, configured by `wg` (its interface is generic netlink, which Node.js can't speak).

import { CodedError } from '../../lib/errors.ts'
import type { Command } from './command.ts'
import type { TunnelDriver } from './driver.ts'
import type { DeviceChange, ObservedDevice, ObservedPeer } from './plan.ts'

/** Node.js makes standard input a socket, which wg can't open by name: cat makes it a pipe. */
const ADD = 'cat | wg addconf "$0" /dev/stdin'

export class KernelDriver implements TunnelDriver {
  readonly kind = 'kernel'
  readonly #command: Command

  constructor(options: { readonly command: Command }) {
    this.#command = options.command
  }

  async create(name: string, mtu: number): Promise<void> {
    await this.remove(name)
    await this.#must(['ip', 'link', 'add', name, 'mtu', `${mtu}`, 'type', 'wireguard'])
  }

  async observe(name: string): Promise<ObservedDevice | undefined> {
    const { status, stdout } = await this.#command(['wg', 'show', name, 'dump'])
    return status === 0 ? decodeDump(stdout) : undefined
  }

  async configure(name: string, changes: readonly DeviceChange[]): Promise<void> {
    for (const change of changes) if (change.kind === 'remove-peer') await this.#remove(name, change.publicKey)
    const rest = changes.filter(({ kind }) => kind !== 'remove-peer')
    if (rest.length > 0) await this.#must(['sh', '-c', ADD, name], encodeConf(rest))
  }

  async remove(name: string): Promise<void> {
    await this.#command(['ip', 'link', 'delete', name])
  }

  async #remove(name: string, publicKey: string): Promise<void> {
    await this.#must(['wg', 'set', name, 'peer', publicKey, 'remove'])
  }

  async #must(argv: readonly string[], input?: string): Promise<void> {
    const { status, stderr } = await this.#command(argv, input)
    if (status !== 0)
      throw new CodedError('WIREGUARD_REFUSED', `${argv.slice(0, 4).join(' ')}: ${stderr.trim()}`, { retryable: true })
  }
}

/** `wg addconf`: adds and replaces what it names, leaves the rest. Keys go in by standard input, never by an argument. */
export function encodeConf(changes: readonly DeviceChange[]): string {
  return changes.flatMap(sectionOf).concat('').join('\n')
}

function sectionOf(change: DeviceChange): readonly string[] {
  switch (change.kind) {
    case 'identity':
      return ['[Interface]', `PrivateKey = ${change.privateKey}`, `ListenPort = ${change.port}`]
    case 'put-peer':
      return [
        '[Peer]',
        `PublicKey = ${change.publicKey}`,
        `Endpoint = ${change.peer.endpoint}`,
        `AllowedIPs = ${change.peer.allowedIp}`,
        `PersistentKeepalive = ${change.peer.keepaliveSeconds === 0 ? 'off' : change.peer.keepaliveSeconds}`,
      ]
    case 'remove-peer':
      return []
  }
}

/** Tabs between: private key, public key, port, mark; then of each peer public key, shared key, endpoint, allowed, handshake, rx, tx, keepalive. */
export function decodeDump(text: string): ObservedDevice {
  const [first = [], ...rest] = text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'))
  const known = (field: string | undefined) => (field === undefined || field.startsWith('(none)') ? '' : field)
  const peers = new Map<string, ObservedPeer>()
  for (const [publicKey = '', , endpoint, allowedIp, handshakeAt, , , keepalive] of rest)
    peers.set(publicKey, {
      endpoint: known(endpoint),
      allowedIp: known(allowedIp),
      keepaliveSeconds: Number(keepalive) || 0,
      handshakeAt: Number(handshakeAt) || 0,
    })
  return { privateKey: known(first[0]), port: Number(first[2]) || 0, peers }
}
