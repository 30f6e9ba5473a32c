// The two implementations of WireGuard that a node may have, as one: devices that come, are configured, and go.

import type { DeviceChange, ObservedDevice } from './plan.ts'

export interface TunnelDriver {
  readonly kind: 'kernel' | 'wireguard-go'
  /** The device is there, and answers `observe`, when it resolves. Whatever had its name is removed first. */
  create(name: string, mtu: number): Promise<void>
  /** Undefined where there is none, or none that answers. */
  observe(name: string): Promise<ObservedDevice | undefined>
  /** @throws {CodedError} WIREGUARD_REFUSED, WIREGUARD_SILENT */
  configure(name: string, changes: readonly DeviceChange[]): Promise<void>
  /** No error where there is none. */
  remove(name: string): Promise<void>
}
