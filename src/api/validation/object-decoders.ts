// Bodies of the other requests as JSON → our types: secrets, configs, nodes, networks, the cluster's settings, init, join.

import type { ConfigSpec, NetworkSpec, NodeSpec, SecretSpec, SwarmSpec } from '../spec.ts'
import type { Decoder } from './decode.ts'
import {
  always,
  count,
  flag,
  integer,
  labels,
  list,
  malformed,
  object,
  pointer,
  text,
  texts,
  uint32,
} from './decode.ts'
import { refusal } from './refusal.ts'
import { driver } from './service-decoder.ts'

/** base64 with padding, as Go reads `[]byte`. */
const base64: Decoder<string> = (value, path) => {
  const given = text(value, path)
  if (given === undefined) return undefined
  const clean = given.replace(/[\r\n]/g, '')
  if (Buffer.from(clean, 'base64').toString('base64') !== clean) throw malformed(path, 'illegal base64 data')
  return clean
}

export const secretSpecDecoder: Decoder<SecretSpec> = object<SecretSpec>({
  Name: text,
  Labels: always(labels, {}),
  Data: base64,
  Driver: driver,
  Templating: driver,
})

export const configSpecDecoder: Decoder<ConfigSpec> = object<ConfigSpec>({
  Name: text,
  Labels: always(labels, {}),
  Data: base64,
  Templating: driver,
})

const role: Decoder<'worker' | 'manager'> = (value, path) => {
  const given = text(value, path) ?? ''
  const found = (['worker', 'manager'] as const).find((each) => each === given.toLowerCase())
  if (found === undefined) throw refusal(`invalid Role: ${JSON.stringify(given)}`)
  return found
}

export type Availability = 'active' | 'pause' | 'drain'

const availability: Decoder<Availability> = (value, path) => {
  const given = text(value, path) ?? ''
  const found = (['active', 'pause', 'drain'] as const).find((each) => each === given.toLowerCase())
  if (found === undefined) throw refusal(`invalid Availability: ${JSON.stringify(given)}`)
  return found
}

export const nodeSpecDecoder: Decoder<NodeSpec> = object<NodeSpec>({
  Name: text,
  Labels: always(labels, {}),
  Role: role,
  Availability: availability,
})

/** Zeros are kept out, so that a merge takes the default where none was sent. */
export const swarmSpecDecoder: Decoder<SwarmSpec> = object<SwarmSpec>({
  Name: text,
  Labels: labels,
  Orchestration: object({ TaskHistoryRetentionLimit: pointer(integer, 0) }),
  Raft: object({
    SnapshotInterval: count,
    KeepOldSnapshots: pointer(count, 0),
    LogEntriesForSlowFollowers: count,
    ElectionTick: count,
    HeartbeatTick: count,
  }),
  Dispatcher: object({ HeartbeatPeriod: integer }),
  CAConfig: object<NonNullable<SwarmSpec['CAConfig']>>({
    NodeCertExpiry: integer,
    ExternalCAs: list(
      object({
        Protocol: (value: unknown, path: string) => {
          const given = text(value, path) ?? ''
          if (given.toLowerCase() !== 'cfssl') throw refusal(`invalid protocol: ${JSON.stringify(given)}`)
          return 'cfssl' as const
        },
        URL: text,
        Options: labels,
        CACert: text,
      }),
    ),
    SigningCACert: text,
    SigningCAKey: text,
    ForceRotate: count,
  }),
  EncryptionConfig: object({ AutoLockManagers: flag }),
  TaskDefaults: object({ LogDriver: driver }),
})

export interface InitBody {
  readonly ListenAddr: string
  readonly AdvertiseAddr: string
  readonly DataPathAddr: string
  readonly DataPathPort: number
  readonly DefaultAddrPool: readonly string[]
  readonly SubnetSize: number
  readonly ForceNewCluster: boolean
  readonly AutoLockManagers: boolean
  readonly Availability: Availability
  readonly Spec: SwarmSpec
}

const availabilityOrActive: Decoder<Availability> = (value, path) =>
  value === null || value === undefined || value === '' ? 'active' : availability(value, path)

export const initDecoder: Decoder<InitBody> = object<InitBody>({
  ListenAddr: always(text, ''),
  AdvertiseAddr: always(text, ''),
  DataPathAddr: always(text, ''),
  DataPathPort: always(uint32, 0),
  DefaultAddrPool: always(texts, []),
  SubnetSize: always(uint32, 0),
  ForceNewCluster: always(flag, false),
  AutoLockManagers: always(flag, false),
  Availability: availabilityOrActive,
  Spec: always(swarmSpecDecoder, {}),
})

export interface JoinBody {
  readonly ListenAddr: string
  readonly AdvertiseAddr: string
  readonly DataPathAddr: string
  readonly RemoteAddrs: readonly string[]
  readonly JoinToken: string
  readonly Availability: Availability
}

export const joinDecoder: Decoder<JoinBody> = object<JoinBody>({
  ListenAddr: always(text, ''),
  AdvertiseAddr: always(text, ''),
  DataPathAddr: always(text, ''),
  RemoteAddrs: always(texts, []),
  JoinToken: always(text, ''),
  Availability: availabilityOrActive,
})

export const unlockDecoder: Decoder<{ readonly UnlockKey: string }> = object({ UnlockKey: always(text, '') })

/** The body of /networks/create, which differs from the spec that is stored. */
export interface NetworkCreateBody {
  readonly Name: string
  readonly Driver: string
  readonly Scope: string
  readonly EnableIPv4: boolean | undefined
  readonly EnableIPv6: boolean
  readonly Internal: boolean
  readonly Attachable: boolean
  readonly Ingress: boolean
  readonly ConfigOnly: boolean
  readonly ConfigFrom: { readonly Network?: string } | undefined
  readonly Options: Readonly<Record<string, string>>
  readonly Labels: Readonly<Record<string, string>>
  readonly IPAM:
    | {
        readonly Driver?: string
        readonly Options?: Readonly<Record<string, string>>
        readonly Config?: NonNullable<NetworkSpec['IPAMOptions']>['Configs'] & object
      }
    | undefined
}

export const networkCreateDecoder: Decoder<NetworkCreateBody> = object<NetworkCreateBody>({
  Name: always(text, ''),
  Driver: always(text, ''),
  Scope: always(text, ''),
  EnableIPv4: pointer(flag, false),
  EnableIPv6: always(flag, false),
  Internal: always(flag, false),
  Attachable: always(flag, false),
  Ingress: always(flag, false),
  ConfigOnly: always(flag, false),
  ConfigFrom: object({ Network: text }),
  Options: always(labels, {}),
  Labels: always(labels, {}),
  IPAM: object({
    Driver: text,
    Options: labels,
    Config: list(object({ Subnet: text, IPRange: text, Gateway: text, AuxiliaryAddresses: labels })),
  }),
})
