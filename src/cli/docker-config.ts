// The user's ~/.docker/config.json: registry credentials, default formats of tables, the current context.

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { errorCode, errorMessage } from '../lib/errors.ts'
import { CliError, type Environment } from './command.ts'
import { parseReference } from './reference.ts'

export interface DockerConfig {
  readonly directory: string
  readonly currentContext?: string
  readonly auths?: Readonly<Record<string, AuthEntry>>
  readonly credsStore?: string
  readonly credHelpers?: Readonly<Record<string, string>>
  readonly servicesFormat?: string
  readonly serviceInspectFormat?: string
  readonly tasksFormat?: string
  readonly nodesFormat?: string
  readonly networksFormat?: string
  readonly secretFormat?: string
  readonly configFormat?: string
  readonly detachKeys?: string
}

interface AuthEntry {
  readonly auth?: string
  readonly username?: string
  readonly password?: string
  readonly identitytoken?: string
}

const DOCKER_HUB = 'https://index.docker.io/v1/'

export function configDirectory(environment: Environment, flag: string | undefined): string {
  return flag ?? environment.DOCKER_CONFIG ?? join(environment.HOME ?? '/root', '.docker')
}

/** An absent file is an empty configuration. @throws {CliError} for one that cannot be read or is no JSON. */
export function readDockerConfig(directory: string): DockerConfig {
  const path = join(directory, 'config.json')
  try {
    const json: unknown = JSON.parse(readFileSync(path, 'utf8'))
    return { ...(json as DockerConfig), directory }
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return { directory }
    throw new CliError(`WARNING: Error loading config file: ${path}: ${errorMessage(error)}`)
  }
}

/**
 * The X-Registry-Auth header for pulling `image`: base64url of JSON, "{}" where no credentials are known. Docker's
 * credential helpers are asked where the configuration names one.
 */
export async function registryAuth(config: DockerConfig, environment: Environment, image: string): Promise<string> {
  const domain = parseReference(image)?.domain ?? 'docker.io'
  const server = domain === 'docker.io' ? DOCKER_HUB : domain
  const helper = config.credHelpers?.[server] ?? config.credsStore
  const entry = helper ? await askHelper(helper, server, environment) : fromFile(config, server)
  return Buffer.from(JSON.stringify(entry)).toString('base64url')
}

function fromFile(config: DockerConfig, server: string): Readonly<Record<string, string>> {
  const auths = config.auths ?? {}
  const host = (key: string) => key.replace(/^https?:\/\//, '').split('/')[0]
  const key = server in auths ? server : Object.keys(auths).find((name) => host(name) === host(server))
  if (key === undefined) return {}
  const entry = auths[key]!
  const [user = '', ...rest] = Buffer.from(entry.auth ?? '', 'base64')
    .toString()
    .split(':')
  const password = rest.join(':').replace(/\0+$/, '')
  return {
    ...(entry.username || user ? { username: entry.username || user } : {}),
    ...(entry.password || password ? { password: entry.password || password } : {}),
    ...(entry.identitytoken ? { identitytoken: entry.identitytoken } : {}),
    serveraddress: server,
  }
}

function askHelper(
  helper: string,
  server: string,
  environment: Environment,
): Promise<Readonly<Record<string, string>>> {
  const program = `docker-credential-${helper}`
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { env: { ...environment }, stdio: ['pipe', 'pipe', 'ignore'] })
    let output = ''
    child.on('error', (error) => reject(new CliError(`error getting credentials - err: ${error.message}`)))
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString()
    })
    child.on('close', (code) => {
      if (code !== 0) {
        // the helper's word for "none stored"
        if (output.includes('credentials not found')) resolve({})
        else reject(new CliError(`error getting credentials - err: exit status ${code}, out: \`${output.trim()}\``))
        return
      }
      const { Username, Secret } = JSON.parse(output) as { Username?: string; Secret?: string }
      const token = Username === '<token>'
      resolve({
        ...(token ? { identitytoken: Secret ?? '' } : { username: Username ?? '', password: Secret ?? '' }),
        serveraddress: server,
      })
    })
    child.stdin.on('error', () => {}) // a helper that ends without reading: its exit code says what was wrong
    child.stdin.end(server)
  })
}
