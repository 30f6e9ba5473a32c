// Names of networks, secrets and configs that flags mention → the ids that specs carry.

import type { ConfigReference, Privileges, SecretReference } from '../../api/spec.ts'
import type { NetworkJson, SecretJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError } from '../command.ts'
import type { Filters, Flags } from '../flags.ts'
import { parseConfig, parseCredentialSpec, parseNetwork, parseSecret } from './values.ts'

type CredentialSpec = NonNullable<Privileges['CredentialSpec']>

/** Ids by name, for the names that a command line mentions. Every method throws CliError for a name without one. */
export class Resolved {
  readonly #networks: ReadonlyMap<string, string>
  readonly #networkNames: ReadonlyMap<string, string>
  readonly #secrets: ReadonlyMap<string, string>
  readonly #configs: ReadonlyMap<string, string>

  constructor(ids: {
    readonly networks?: ReadonlyMap<string, string>
    /** Names by what was mentioned, where that was an id. */
    readonly networkNames?: ReadonlyMap<string, string>
    readonly secrets?: ReadonlyMap<string, string>
    readonly configs?: ReadonlyMap<string, string>
  }) {
    this.#networks = ids.networks ?? new Map()
    this.#networkNames = ids.networkNames ?? new Map()
    this.#secrets = ids.secrets ?? new Map()
    this.#configs = ids.configs ?? new Map()
  }

  network(name: string): string {
    return idOf(this.#networks, name, `network ${name} not found`)
  }

  networkName(mentioned: string): string {
    return this.#networkNames.get(mentioned) ?? mentioned
  }

  /** Its name and its id. */
  networkNames(mentioned: string): readonly string[] {
    return [this.networkName(mentioned), this.network(mentioned)]
  }

  config(name: string): string {
    return idOf(this.#configs, name, `config not found: ${name}`)
  }

  /** References of --secret values; two may not have one target. */
  secrets(values: readonly string[]): SecretReference[] {
    const targets = new Set<string>()
    return values.map(parseSecret).map((reference) => {
      const name = reference.SecretName ?? ''
      refuseTwice(targets, reference.File?.Name ?? '', `duplicate secret target for ${name} not allowed`)
      return { ...reference, SecretID: idOf(this.#secrets, name, `secret not found: ${name}`) }
    })
  }

  /** References of --config values, and the credential spec, whose config is one more reference. */
  configs(
    values: readonly string[],
    credentials?: CredentialSpec,
  ): { readonly configs: readonly ConfigReference[]; readonly credentialSpec: CredentialSpec | undefined } {
    const targets = new Set<string>()
    const configs: ConfigReference[] = values.map(parseConfig).map((reference) => {
      const name = reference.ConfigName ?? ''
      refuseTwice(targets, reference.File?.Name ?? '', `duplicate config target for ${name} not allowed`)
      return { ...reference, ConfigID: this.config(name) }
    })
    const name = credentials?.Config
    if (!credentials || !name) return { configs, credentialSpec: credentials }
    const id = this.config(name)
    return {
      configs: [...configs, { Runtime: {}, ConfigID: id, ConfigName: name }],
      credentialSpec: { ...credentials, Config: id },
    }
  }
}

function idOf(ids: ReadonlyMap<string, string>, name: string, missing: string): string {
  const id = ids.get(name)
  if (id === undefined) throw new CliError(missing)
  return id
}

function refuseTwice(targets: Set<string>, target: string, message: string): void {
  if (targets.has(target)) throw new CliError(message)
  targets.add(target)
}

/** Asks the daemon for the ids of what `flags` mention, and for nothing else. @throws {CliError} */
export async function resolveNames(client: ApiClient, flags: Flags): Promise<Resolved> {
  const networkNames = [
    ...[...flags.list('network'), ...flags.list('network-add')].map((text) => parseNetwork(text).Target ?? ''),
    ...flags.list('network-rm'),
  ]
  const networks = new Map<string, string>()
  const names = new Map<string, string>()
  for (const name of networkNames) {
    if (networks.has(name)) continue
    const network = await client.json<NetworkJson>('GET', `/networks/${encodeURIComponent(name)}`, {
      query: { scope: 'swarm' },
    })
    networks.set(name, network.Id)
    names.set(name, network.Name)
  }
  const secretNames = [...flags.list('secret'), ...flags.list('secret-add')].map(
    (text) => parseSecret(text).SecretName ?? '',
  )
  const credentials = flags.text('credential-spec')
  const configNames = [
    ...[...flags.list('config'), ...flags.list('config-add')].map((text) => parseConfig(text).ConfigName ?? ''),
    ...(credentials.startsWith('config://') ? [parseCredentialSpec(credentials).Config ?? ''] : []),
  ]
  return new Resolved({
    networks,
    networkNames: names,
    secrets: await idsByName(client, '/secrets', secretNames),
    configs: await idsByName(client, '/configs', configNames),
  })
}

async function idsByName(client: ApiClient, path: string, names: readonly string[]): Promise<Map<string, string>> {
  if (names.length === 0) return new Map()
  const filters: Filters = { name: Object.fromEntries(names.map((name) => [name, true as const])) }
  const found = await client.json<SecretJson[]>('GET', path, { filters })
  return new Map(found.map((object) => [object.Spec.Name ?? '', object.ID]))
}
