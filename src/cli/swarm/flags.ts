// Flags of `swarm init`, `update` and `ca`, and what they change in the cluster's spec.

import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { CLUSTER_SETTINGS } from '../../api/cluster-settings.ts'
import type { ExternalCa, SwarmSpec } from '../../api/spec.ts'
import { errorMessage } from '../../lib/errors.ts'
import { CliError, type Flag, type FlagType } from '../command.ts'
import { parseCsvRecord } from '../csv.ts'
import { durationType, type Flags, intType, keyValues, labelType, parsed, uintType } from '../flags.ts'
import { cut, ValueError } from '../strconv.ts'

const DEFAULT_LISTEN_HOST = '0.0.0.0'
const DEFAULT_PORT = '2377'

/** host:port of a listen address, its parts filled in: "eth0", ":2377", "10.0.0.1". @throws {ValueError} */
export function parseListenAddress(text: string): string {
  const [scheme = '', after = ''] = text.includes('://') ? text.split('://', 2) : ['tcp', text]
  if (scheme !== 'tcp') throw new ValueError(`Invalid proto, expected tcp: ${text}`)
  const match = /^(\[[^\]]*\]|[^:/]*)(?::(\d*))?$/.exec(after)
  if (!match) throw new ValueError(`invalid bind address format: ${text}`)
  const [, host, port] = match
  return `${host || DEFAULT_LISTEN_HOST}:${port || DEFAULT_PORT}`
}

export const listenAddressType: FlagType = parsed('node-addr', parseListenAddress)

export const addressPoolType: FlagType = parsed('ipNetSlice', (text) => {
  for (const pool of text.split(',')) {
    const [ip = '', prefix = ''] = pool.trim().split('/')
    const bits = isIP(ip) === 4 ? 32 : 128
    if (isIP(ip) === 0 || !/^\d+$/.test(prefix) || Number(prefix) > bits) {
      throw new ValueError(`invalid string being converted to CIDR: ${pool}`)
    }
  }
})

/** "protocol=cfssl,url=…,cacert=FILE,option=value". @throws {ValueError} */
export function parseExternalCa(text: string): ExternalCa {
  const options: Record<string, string> = {}
  let protocol = false
  let url: string | undefined
  let caCert = ''
  for (const field of parseCsvRecord(text)) {
    const { before: key, after: value, found } = cut(field, '=')
    if (!found) throw new ValueError(`invalid field '${field}' must be a key=value pair`)
    switch (key.toLowerCase()) {
      case 'protocol':
        if (value.toLowerCase() !== 'cfssl') throw new ValueError(`unrecognized external CA protocol ${value}`)
        protocol = true
        break
      case 'url':
        url = value
        break
      case 'cacert':
        caCert = readCertificate(value)
        break
      default:
        options[key] = value
    }
  }
  if (!protocol) throw new ValueError('the external-ca option needs a protocol= parameter')
  if (url === undefined) throw new ValueError('the external-ca option needs a url= parameter')
  return { Protocol: 'cfssl', URL: url, Options: options, CACert: caCert }
}

function readCertificate(path: string): string {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    throw new ValueError(`unable to read CA cert for external CA: ${errorMessage(error)}`)
  }
  if (!text.includes('-----BEGIN ')) throw new ValueError('CA cert for external CA must be in PEM format')
  return text
}

/** A file that must hold PEM; the value stays its path. */
export const pemFileType: FlagType = parsed('pem-file', (path) => readPem(path))

export function readPem(path: string): string {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    throw new ValueError(`open ${path}: no such file or directory`)
  }
  if (!text.includes('-----BEGIN ')) throw new ValueError('file contents must be in PEM format')
  return text
}

export const caFlags: readonly Flag[] = [
  {
    name: 'cert-expiry',
    type: durationType,
    help: 'Validity period for node certificates (ns|us|ms|s|m|h)',
    shownDefault: '2160h0m0s',
  },
  {
    name: 'external-ca',
    type: parsed('external-ca', parseExternalCa),
    help: 'Specifications of one or more certificate signing endpoints',
  },
]

export const specFlags: readonly Flag[] = [
  ...caFlags,
  {
    name: 'dispatcher-heartbeat',
    type: durationType,
    help: 'Dispatcher heartbeat period (ns|us|ms|s|m|h)',
    shownDefault: '5s',
  },
  { name: 'max-snapshots', type: uintType, help: 'Number of additional Raft snapshots to retain' },
  {
    name: 'snapshot-interval',
    type: uintType,
    help: 'Number of log entries between Raft snapshots',
    shownDefault: '10000',
  },
  {
    name: 'label-add',
    type: labelType,
    help: 'Add or update a label of the swarm, such as a setting ("key=value")',
    complete: CLUSTER_SETTINGS.flatMap(({ label, examples }) => examples.map((value) => `${label}=${value}`)),
  },
  { name: 'task-history-limit', type: intType, help: 'Task history retention limit', shownDefault: '5' },
]

/** What Go's zero value of the spec looks like in JSON: the base for `init`. */
export const EMPTY_SPEC: SwarmSpec = {
  Labels: {},
  Orchestration: {},
  Raft: { ElectionTick: 0, HeartbeatTick: 0 },
  Dispatcher: {},
  CAConfig: {},
  TaskDefaults: {},
  EncryptionConfig: { AutoLockManagers: false },
}

/** The spec with what the flags change; `trustRoot` fills in external CAs that come without a certificate. */
export function changedSwarmSpec(spec: SwarmSpec, flags: Flags, trustRoot: string | undefined): SwarmSpec {
  const historyLimit = flags.int('task-history-limit')
  const heartbeat = flags.duration('dispatcher-heartbeat')
  const keep = flags.uint('max-snapshots')
  const interval = flags.uint('snapshot-interval')
  const labels: Record<string, string> = { ...spec.Labels, ...keyValues(flags.list('label-add')) }
  for (const key of flags.list('label-rm')) {
    if (!(key in labels)) throw new CliError(`key ${key} doesn't exist in the swarm's labels`)
    delete labels[key]
  }
  return {
    ...spec,
    Labels: labels,
    Orchestration: {
      ...spec.Orchestration,
      ...(historyLimit === undefined ? {} : { TaskHistoryRetentionLimit: historyLimit }),
    },
    Dispatcher: { ...spec.Dispatcher, ...(heartbeat === undefined ? {} : { HeartbeatPeriod: heartbeat }) },
    Raft: {
      ...spec.Raft,
      ...(keep === undefined ? {} : { KeepOldSnapshots: keep }),
      ...(interval === undefined ? {} : { SnapshotInterval: interval }),
    },
    EncryptionConfig: {
      ...spec.EncryptionConfig,
      ...(flags.changed('autolock') ? { AutoLockManagers: flags.on('autolock') } : {}),
    },
    CAConfig: changedCaConfig(spec.CAConfig, flags, trustRoot),
  }
}

/** As `changedSwarmSpec`, for the CA's part alone. */
export function changedCaConfig(
  config: SwarmSpec['CAConfig'],
  flags: Flags,
  trustRoot: string | undefined,
): NonNullable<SwarmSpec['CAConfig']> {
  const expiry = flags.duration('cert-expiry')
  const externals = flags.list('external-ca').map(parseExternalCa)
  return {
    ...config,
    ...(expiry === undefined ? {} : { NodeCertExpiry: expiry }),
    ...(externals.length > 0
      ? { ExternalCAs: externals.map((ca) => (ca.CACert || !trustRoot ? ca : { ...ca, CACert: trustRoot })) }
      : {}),
  }
}
