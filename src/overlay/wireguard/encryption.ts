// Keeps this node's encrypted tunnels as they are to be: chooses an implementation, makes keys, brings devices, peers and routes
// to what the plan says, repairs them when they are hurt, and moves to new keys without loss. What it can't do leaves encrypted
// networks without a path, never with a clear one: their addresses have no other route than into a black hole.

import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { Peer } from '../../api/data-plane.ts'
import type { Clock, Timer } from '../../lib/clock.ts'
import { CodedError, errorMessage } from '../../lib/errors.ts'
import type { Log } from '../../lib/log.ts'
import { Turns } from '../../lib/turns.ts'
import type { DesiredState, Self } from '../desired-state.ts'
import { type FabricConfig, wireguardDevice } from '../kernel/fabric-config.ts'
import { formatAnnouncement } from './announcement.ts'
import { type Command, hostCommand } from './command.ts'
import type { TunnelDriver } from './driver.ts'
import { KernelDriver } from './kernel-driver.ts'
import { makeKey, readKeys, writeKeys } from './key-file.ts'
import { deviceOf, type Slot, slotOf, wireguardPort } from './layout.ts'
import { holeCommand, linkCommands, observeLinks } from './links.ts'
import {
  deviceChanges,
  type ObservedDevice,
  type OwnKey,
  planTunnels,
  type TunnelDevice,
  type TunnelPeer,
  type Tunnels,
} from './plan.ts'
import { nextRotation } from './rotation.ts'
import { UserspaceDriver } from './userspace-driver.ts'

export interface EncryptionOptions {
  readonly config: Pick<FabricConfig, 'instance'>
  /** Of swarmd-net: keys, sockets and logs go below it. */
  readonly stateDirectory: string
  /** Keys or the problem changed: the node has to tell its managers. */
  readonly changed: () => void
  readonly log: Log
  readonly clock: Clock
  /** Path of the host's network namespace; default: this process's own. */
  readonly hostNamespace?: string
}

const ROTATION_POLL_MS = 1000
const RESTART_DELAY_MS = 200
const RESTART_DELAY_MAX_MS = 10_000
const SLOTS: readonly Slot[] = ['a', 'b']

export class Encryption {
  readonly #options: EncryptionOptions
  readonly #command: Command
  readonly #keyPath: string
  #driver: TunnelDriver | undefined
  /** Why there is no driver. */
  #missing = ''
  /** What went wrong last, until it goes well. */
  #failure = ''
  #keys: readonly OwnKey[] = []
  #newestAtMs = 0
  #settledAtMs: number | undefined
  #self: Self | undefined
  #peers: readonly Peer[] = []
  #needed = false
  /** There is no device of ours. */
  #isDown = false
  /** By device: what was last asked of it. */
  readonly #configured = new Map<string, ReadonlyMap<string, TunnelPeer>>()
  readonly #handshakeAges = new Map<string, number>()
  readonly #turns = new Turns()
  #timer: Timer | undefined
  #restarts = 0
  #closed = false

  constructor(options: EncryptionOptions) {
    this.#options = options
    this.#command = hostCommand(options.hostNamespace ?? '')
    this.#keyPath = join(options.stateDirectory, 'wireguard', 'keys.json')
  }

  /** Finds an implementation and this node's keys; touches no device. Never rejects: see `problem`. */
  async open(): Promise<void> {
    const found = await this.#findDriver()
    if (typeof found === 'string') {
      this.#missing = found
      return
    }
    try {
      this.#keys = await readKeys(this.#keyPath)
      this.#newestAtMs = this.#options.clock.nowMs()
      if (this.#keys.length === 0) await this.#keep([makeKey(1)])
      this.#driver = found
    } catch (error) {
      this.#keys = []
      this.#missing = errorMessage(error)
    }
  }

  /** For Peer.encryptionKeys and DataPathReport.encryptionKeys; empty: this node can't encrypt. */
  publicKeys(): readonly string[] {
    return this.#keys.map(({ generation, publicKey }) =>
      formatAnnouncement({ generation, publicKey, port: wireguardPort(this.#options.config, slotOf(generation)) }),
    )
  }

  /** For people; empty: none. With no public keys it says why, with some it is what does not work at the moment. */
  problem(): string {
    return this.#missing || this.#failure
  }

  /**
   * Resolves when the tunnels are as `state` wants them, or it is known (see `problem`) why they are not; devices exist only while
   * there is an encrypted network. Rejects for nothing that can happen in operation.
   */
  async apply(state: DesiredState): Promise<void> {
    const peers = [...state.peers.values()]
    const needed = isNeeded(state)
    const left = this.#self !== undefined && state.self === undefined
    const same =
      this.#self?.number === state.self?.number &&
      this.#needed === needed &&
      this.#peers.length === peers.length &&
      peers.every((peer, at) => peer === this.#peers[at])
    this.#self = state.self
    this.#peers = peers
    this.#needed = needed
    // Most changes are of end points, and cost nothing here; a pending repair of an earlier one is waited for all the same.
    if (left) await this.#turns.take(() => this.#startAnew())
    await (same ? this.#turns.idle() : this.#turns.take(() => this.#reconcile()))
  }

  /** Compares with the kernel and repairs; what had to be repaired, for the log. */
  audit(): Promise<readonly string[]> {
    return this.#turns.take(() => this.#reconcile())
  }

  /**
   * Starts the change to new keys, on this node and by its example on all others. Resolves when the new key is announced.
   * @throws {CodedError} ENCRYPTION_UNAVAILABLE; ROTATION_UNDER_WAY: the key before the last may still be in use
   */
  rotate(): Promise<void> {
    return this.#turns.take(async () => {
      const [newest] = this.#keys
      if (!newest || !this.#driver) throw new CodedError('ENCRYPTION_UNAVAILABLE', this.problem())
      if (this.#keys.length > 1) {
        const message = 'the keys of encrypted networks are being changed already: try again in a minute'
        throw new CodedError('ROTATION_UNDER_WAY', message, { retryable: true })
      }
      await this.#keep([makeKey(newest.generation + 1), newest])
      await this.#reconcile()
    })
  }

  /** Leaves the kernel and wireguard-go as they are. */
  async close(): Promise<void> {
    this.#closed = true
    this.#timer?.cancel()
    await this.#turns.idle()
  }

  /** Takes away all that a node's tunnels have in the system, but its keys. */
  static async remove(options: Omit<EncryptionOptions, 'changed'>): Promise<void> {
    const encryption = new Encryption({ ...options, changed: () => {} })
    await encryption.#removeDevices(encryption.#userspace(), SLOTS)
    await encryption.#command(['ip', '-batch', '-'], `${holeCommand(options.config, 'delete')}\n`)
    await encryption.close()
  }

  async #findDriver(): Promise<TunnelDriver | string> {
    const probe = `${deviceOf(this.#options.config, 1)}p`
    await this.#command(['ip', 'link', 'delete', probe])
    const inKernel = (await this.#command(['ip', 'link', 'add', probe, 'type', 'wireguard'])).status === 0
    if (inKernel) {
      await this.#command(['ip', 'link', 'delete', probe])
      if ((await this.#command(['wg', '--version'])).status === 0) return new KernelDriver({ command: this.#command })
    }
    const installed = (await this.#command(['sh', '-c', 'command -v wireguard-go'])).status === 0
    if (installed && existsSync('/dev/net/tun')) return this.#userspace()
    if (installed) return 'wireguard-go is installed, but this machine has no /dev/net/tun'
    return inKernel
      ? "the kernel's WireGuard can't be configured: neither wg (wireguard-tools) nor wireguard-go is installed"
      : 'the kernel has no WireGuard, and wireguard-go is not installed'
  }

  #userspace(): UserspaceDriver {
    return new UserspaceDriver({
      directory: join(this.#options.stateDirectory, 'wireguard'),
      hostNamespace: this.#options.hostNamespace ?? '',
      command: this.#command,
      clock: this.#options.clock,
      ended: (device) => this.#ended(device),
    })
  }

  #ended(device: string): void {
    if (this.#closed) return
    this.#options.log.warn({ device }, 'wireguard-go ended')
    this.#wakeAfter(Math.min(RESTART_DELAY_MS * 2 ** this.#restarts, RESTART_DELAY_MAX_MS))
    this.#restarts++
  }

  /** One look at the kernel and all it takes to get where it should be. Called in the queue only. */
  async #reconcile(): Promise<readonly string[]> {
    const driver = this.#driver
    if (!driver || this.#closed) return []
    const before = this.problem()
    const done: string[] = []
    try {
      await this.#rotateKeys()
      if (!this.#self || !this.#needed) await this.#takeDown(driver)
      else await this.#bringUp(driver, this.#self, done)
      this.#failure = ''
      if (done.length === 0) this.#restarts = 0
    } catch (error) {
      this.#failure = errorMessage(error)
      this.#wakeAfter(RESTART_DELAY_MAX_MS)
      if (before !== this.#failure) this.#options.log.error({ error: this.#failure }, 'encrypted tunnels do not work')
    }
    if (before !== this.problem()) this.#options.changed()
    if (this.#keys.length > 1) this.#wakeAfter(ROTATION_POLL_MS)
    return done
  }

  /** Most nodes have no encrypted network: looking once is enough. */
  async #takeDown(driver: TunnelDriver): Promise<void> {
    if (this.#isDown) return
    await this.#removeDevices(driver, SLOTS)
    this.#isDown = true
  }

  async #bringUp(driver: TunnelDriver, self: Self, done: string[]): Promise<void> {
    const { config } = this.#options
    this.#isDown = false
    const observed = new Map<string, ObservedDevice>()
    for (const { generation } of this.#keys) {
      const name = deviceOf(config, generation)
      const device = await driver.observe(name)
      if (device) observed.set(name, device)
    }
    this.#noteHandshakes(observed)
    const tunnels = this.#plan(self)
    this.#settledAtMs = tunnels.settled ? (this.#settledAtMs ?? this.#options.clock.nowMs()) : undefined
    // Before any device: there is no moment in which these addresses have a way out in clear.
    const links = await observeLinks(this.#command, config)
    if (!links.hole) {
      await this.#ip([holeCommand(config, 'replace')])
      done.push(holeCommand(config, 'replace'))
    }
    for (const device of tunnels.devices) {
      let seen = observed.get(device.name)
      if (!seen) {
        await driver.create(device.name, device.mtu)
        await this.#adjust(device.name)
        this.#configured.delete(device.name)
        seen = { privateKey: '', port: 0, peers: new Map() }
        done.push(`device ${device.name} made`)
      }
      await this.#configure(driver, device, seen, done)
    }
    const names = tunnels.devices.map(({ name }) => name)
    const fresh = done.length > 0 ? await observeLinks(this.#command, config) : links
    const commands = linkCommands(tunnels, fresh)
    if (commands.length > 0) await this.#ip(commands)
    done.push(...commands)
    for (const slot of SLOTS) {
      const name = wireguardDevice(config, slot)
      if (!names.includes(name) && fresh.devices.has(name)) await this.#removeDevices(driver, [slot])
    }
  }

  async #configure(driver: TunnelDriver, device: TunnelDevice, seen: ObservedDevice, done: string[]): Promise<void> {
    const changes = deviceChanges(device, seen, this.#configured.get(device.name) ?? new Map())
    if (changes.length === 0) return
    await driver.configure(device.name, changes)
    this.#configured.set(device.name, device.peers)
    done.push(...changes.map(({ kind }) => `${device.name}: ${kind}`))
  }

  /** While keys are rotated, a peer may send by one device what is answered by the other: no strict check of the way back. */
  async #adjust(name: string): Promise<void> {
    const settings = `echo 1 >/proc/sys/net/ipv6/conf/${name}/disable_ipv6; echo 2 >/proc/sys/net/ipv4/conf/${name}/rp_filter`
    await this.#command(['sh', '-c', settings])
  }

  #plan(self: Self): Tunnels {
    return planTunnels({
      config: this.#options.config,
      self,
      peers: this.#peers,
      keys: this.#keys,
      handshakeAges: this.#handshakeAges,
    })
  }

  #noteHandshakes(observed: ReadonlyMap<string, ObservedDevice>): void {
    this.#handshakeAges.clear()
    const now = this.#options.clock.wallMs() / 1000
    for (const { peers } of observed.values())
      for (const [publicKey, { handshakeAt }] of peers)
        if (handshakeAt > 0) this.#handshakeAges.set(publicKey, Math.max(0, now - handshakeAt))
  }

  async #rotateKeys(): Promise<void> {
    const step = nextRotation({
      generations: this.#keys.map(({ generation }) => generation),
      peers: this.#peers,
      settledAtMs: this.#settledAtMs,
      newestAtMs: this.#newestAtMs,
      nowMs: this.#options.clock.nowMs(),
    })
    switch (step.kind) {
      case 'none':
        break
      case 'make': {
        const kept = this.#keys.filter(({ generation }) => step.keep.includes(generation))
        await this.#keep([makeKey(step.generation), ...kept])
        break
      }
      case 'drop':
        await this.#keep(this.#keys.filter(({ generation }) => generation !== step.generation))
        break
    }
  }

  /** What the cluster that this node has left knows of it is of no use to anybody. */
  async #startAnew(): Promise<void> {
    if (this.#driver) await this.#keep([makeKey(1)])
  }

  async #keep(keys: readonly OwnKey[]): Promise<void> {
    await writeKeys(this.#keyPath, keys)
    if (keys[0]?.generation !== this.#keys[0]?.generation) this.#newestAtMs = this.#options.clock.nowMs()
    this.#keys = keys
    this.#settledAtMs = undefined
    this.#options.log.info(
      { generations: keys.map(({ generation }) => generation) },
      'keys of encrypted tunnels changed',
    )
    this.#options.changed()
  }

  async #removeDevices(driver: TunnelDriver, slots: readonly Slot[]): Promise<void> {
    const { config } = this.#options
    const links = await observeLinks(this.#command, config)
    for (const slot of slots) {
      const name = wireguardDevice(config, slot)
      if (!links.devices.has(name) && !this.#configured.has(name)) continue
      this.#configured.delete(name)
      await driver.remove(name)
    }
  }

  async #ip(commands: readonly string[]): Promise<void> {
    const { status, stderr } = await this.#command(['ip', '-batch', '-'], `${commands.join('\n')}\n`)
    if (status !== 0) throw new Error(`ip: ${stderr.trim()}`)
  }

  #wakeAfter(delayMs: number): void {
    this.#timer?.cancel()
    if (this.#closed) return
    this.#timer = this.#options.clock.setTimer(delayMs, () => void this.#turns.take(() => this.#reconcile()))
  }
}

/** A node is also on the way of an encrypted network's published ports, without being on that network. */
function isNeeded(state: DesiredState): boolean {
  for (const network of state.networks.values()) if (network.encrypted) return true
  for (const endpoint of state.endpoints.values()) if (endpoint.encrypted) return true
  return false
}
