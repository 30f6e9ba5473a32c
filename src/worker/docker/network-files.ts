// A task's resolv.conf and hosts, as files on this machine that its container gets bound in.

import { readFile } from 'node:fs/promises'
import type { ContainerSpec } from '../../api/spec.ts'
import { extraHosts, type FileMount } from './container-body.ts'
import type { TaskFiles } from './task-files.ts'
import { type ContainerNetworks, hostsFile, resolvConf } from './task-networks.ts'

const RESOLV_CONF = '/etc/resolv.conf'
const HOSTS = '/etc/hosts'

export class NetworkFiles {
  readonly #files: TaskFiles

  constructor(files: TaskFiles) {
    this.#files = files
  }

  /** Both, unless the task brings its own. Without a host name of its own the container is named later: `name`. */
  async write(taskId: string, spec: ContainerSpec, networks: ContainerNetworks): Promise<readonly FileMount[]> {
    const { Search: search, Options: options } = spec.DNSConfig ?? {}
    const hostFile = await readFile(RESOLV_CONF, 'utf8').catch(() => '')
    const resolver = resolvConf(networks.nameServer, { search: search ?? [], options: options ?? [] }, hostFile)
    const own = new Set((spec.Mounts ?? []).map(({ Target }) => Target))
    return [
      { source: await this.#files.put(taskId, 'resolv.conf', resolver), target: RESOLV_CONF },
      { source: await this.name(taskId, spec, networks, spec.Hostname ?? ''), target: HOSTS },
    ].filter(({ target }) => !own.has(target))
  }

  /** Writes hosts again, with the name that the container has. @returns its path */
  name(taskId: string, spec: ContainerSpec, networks: ContainerNetworks, hostname: string): Promise<string> {
    const extra = extraHosts(spec.Hosts ?? []) ?? []
    return this.#files.put(taskId, 'hosts', hostsFile(extra, hostname === '' ? [] : networks.addresses, hostname))
  }
}
