// Which daemon a command talks to: -H, --context, DOCKER_HOST, DOCKER_CONTEXT, the current context, then swarmd's own
// socket where there is one, then Docker's.

import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { errorMessage } from '../lib/errors.ts'
import { CliError, type Environment } from './command.ts'
import type { DockerConfig } from './docker-config.ts'
import type { Flags } from './flags.ts'

export const SWARMD_SOCKET = '/run/swarmd/swarmd.sock'
const DOCKER_SOCKET = '/var/run/docker.sock'

export interface TlsFiles {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
  readonly verify: boolean
}

export interface Address {
  /** As messages show it: "unix:///run/swarmd/swarmd.sock". */
  readonly host: string
  /** PEM texts; undefined: no TLS. */
  readonly tls: TlsFiles | undefined
  readonly contextName: string
}

/** @throws {CliError} for contradictory flags, an unknown context or a certificate that cannot be read. */
export function resolveAddress(flags: Flags, environment: Environment, config: DockerConfig): Address {
  const hosts = flags.list('host')
  const named = flags.maybe('context')
  if (named !== undefined && hosts.length > 0) {
    throw new CliError('conflicting options: either specify --host or --context, not both')
  }
  if (hosts.length > 1) throw new CliError('Specify only one -H')
  const contextName = chooseContext(named, hosts, environment, config)
  if (contextName !== 'default') return fromContext(contextName, config)
  const host = hosts[0] || environment.DOCKER_HOST || defaultHost()
  const tls = tlsFromFlags(flags, environment, config)
  return { host: normalizeHost(host, tls !== undefined), tls, contextName }
}

function chooseContext(
  flag: string | undefined,
  hosts: readonly string[],
  environment: Environment,
  config: DockerConfig,
): string {
  if (flag) return flag
  if (hosts.length > 0 || environment.DOCKER_HOST) return 'default'
  return environment.DOCKER_CONTEXT || config.currentContext || 'default'
}

function defaultHost(): string {
  return `unix://${existsSync(SWARMD_SOCKET) ? SWARMD_SOCKET : DOCKER_SOCKET}`
}

/** Adds what is left out: tcp://, the port (2375, with TLS 2376). */
export function normalizeHost(host: string, tls: boolean): string {
  const text = host.trim()
  const [, scheme = 'tcp', rest = ''] = /^(?:([a-z+]+):\/\/)?(.*)$/.exec(text) ?? []
  if (scheme === 'unix') return `unix://${rest || DOCKER_SOCKET}`
  if (scheme === 'ssh') {
    throw new CliError(
      `swarmctl does not speak ssh itself: run \`ssh -NL /tmp/swarmd.sock:${SWARMD_SOCKET} ${rest}\` and use -H unix:///tmp/swarmd.sock`,
    )
  }
  if (scheme === 'tcp' || scheme === 'http' || scheme === 'https') {
    const [, name = '', port, path = ''] = /^(\[[^\]]*\]|[^:/]*)(?::(\d*))?(\/.*)?$/.exec(rest) ?? []
    if (rest !== '' && name === '' && !port) throw new CliError(`invalid bind address format: ${text}`)
    return `tcp://${name || 'localhost'}:${port || (tls ? '2376' : '2375')}${path}`
  }
  throw new CliError(`invalid bind address format: ${text}`)
}

function tlsFromFlags(flags: Flags, environment: Environment, config: DockerConfig): TlsFiles | undefined {
  const verify = flags.changed('tlsverify') ? flags.on('tlsverify') : Boolean(environment.DOCKER_TLS_VERIFY)
  const wanted = flags.on('tls') || flags.changed('tlsverify') || verify || Boolean(environment.DOCKER_TLS)
  if (!wanted) return undefined
  const folder = environment.DOCKER_CERT_PATH || config.directory
  const file = (flag: string, name: string, required: boolean) => {
    const given = flags.maybe(flag)?.replace(/^(['"])(.*)\1$/, '$2')
    const path = given ?? join(folder, name)
    if (given === undefined && !required && !existsSync(path)) return undefined
    return readPem(path)
  }
  return {
    ca: verify || flags.changed('tlscacert') ? file('tlscacert', 'ca.pem', verify) : undefined,
    cert: file('tlscert', 'cert.pem', false),
    key: file('tlskey', 'key.pem', false),
    verify,
  }
}

function readPem(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new CliError(`unable to resolve docker endpoint: ${errorMessage(error)}`)
  }
}

/** `docker context`s are files below ~/.docker/contexts, in folders named by the hash of the context's name. */
function fromContext(name: string, config: DockerConfig): Address {
  const id = createHash('sha256').update(name).digest('hex')
  const file = join(config.directory, 'contexts', 'meta', id, 'meta.json')
  if (!existsSync(file)) {
    throw new CliError(
      `Failed to initialize: unable to resolve docker endpoint: context "${name}": context not found: open ${file}: no such file or directory`,
    )
  }
  const meta = JSON.parse(readFileSync(file, 'utf8')) as {
    Endpoints?: { docker?: { Host?: string; SkipTLSVerify?: boolean } }
  }
  const endpoint = meta.Endpoints?.docker
  const folder = join(config.directory, 'contexts', 'tls', id, 'docker')
  const read = (file: string) => (existsSync(join(folder, file)) ? readPem(join(folder, file)) : undefined)
  const tls = existsSync(folder)
    ? { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem'), verify: endpoint?.SkipTLSVerify !== true }
    : undefined
  return { host: normalizeHost(endpoint?.Host || defaultHost(), tls !== undefined), tls, contextName: name }
}
