/**
 * A cluster on the hosts of a lab, as the end-to-end tests use it: form it, speak to it through docker, swarmctl and the
 * API, wait for facts, and leave nothing behind. With `to: 'engine'` it is the engine's own Swarm mode: the oracle.
 */

import t from 'tap'
import { callApi } from '../../../lab/engine-api.ts'
import type { Lab } from '../../../lab/lab.ts'
import type { LabHost, Target } from '../../../lab/lab-host.ts'
import type { RunOptions, RunResult } from '../../../lab/run.ts'
import { sharedLab } from './shared-lab.ts'
import { waitFor } from './wait-for.ts'

const CONTROL_PORT = 2377
const FORM_MS = 120_000
const RESET_MS = 120_000

interface SwarmInfo {
  readonly Name: string
  readonly Swarm: { readonly LocalNodeState: string; readonly ControlAvailable: boolean; readonly NodeID: string }
}

interface NodeObject {
  readonly ID: string
  readonly Spec: { readonly Availability: string; readonly Role: string }
  readonly Status: { readonly State: string }
  readonly Description: { readonly Hostname: string }
  readonly ManagerStatus?: { readonly Leader?: boolean; readonly Reachability: string }
}

interface Named {
  readonly ID?: string
  readonly Id?: string
  readonly Name?: string
  readonly Spec?: { readonly Name?: string; readonly Annotations?: { readonly Name?: string } }
}

/** The shared lab's three hosts, formed into one cluster of managers. */
export async function sharedCluster(): Promise<Cluster> {
  return Cluster.form(await sharedLab(t))
}

export class Cluster {
  readonly lab: Lab
  readonly to: Target

  private constructor(lab: Lab, to: Target) {
    this.lab = lab
    this.to = to
  }

  /** Joins all hosts of `lab`, each in its role (unless `roleOf` tells); those that are in already stay as they are. */
  static async form(
    lab: Lab,
    to: Target = 'swarmd',
    roleOf: (host: LabHost) => LabHost['role'] = (host) => host.role,
  ): Promise<Cluster> {
    const cluster = new Cluster(lab, to)
    const states = await Promise.all(lab.hosts.map((host) => cluster.swarmState(host)))
    const first = lab.hosts.find((_, index) => states[index]?.ControlAvailable) ?? lab.managers[0]
    if (!first) throw new Error('a lab without managers forms no cluster')
    const own = (host: LabHost) => ({ ListenAddr: `0.0.0.0:${CONTROL_PORT}`, AdvertiseAddr: host.address })
    if ((await cluster.swarmState(first)).LocalNodeState === 'inactive') {
      await cluster.api(first, 'POST', '/swarm/init', own(first))
    }
    const { JoinTokens } = await cluster.api<{ JoinTokens: { Manager: string; Worker: string } }>(
      first,
      'GET',
      '/swarm',
    )
    // one after the other: each manager that joins changes who must agree to the next
    for (const host of lab.hosts) {
      if ((await cluster.swarmState(host)).LocalNodeState !== 'inactive') continue
      await cluster.api(host, 'POST', '/swarm/join', {
        ...own(host),
        RemoteAddrs: [`${first.address}:${CONTROL_PORT}`],
        JoinToken: roleOf(host) === 'manager' ? JoinTokens.Manager : JoinTokens.Worker,
      })
    }
    await waitFor(
      'every host is a ready node',
      async () => {
        const nodes = await cluster.api<NodeObject[]>(first, 'GET', '/nodes')
        const ready = nodes.filter((node) => node.Status.State === 'ready').map((node) => node.ID)
        const ids = await Promise.all(lab.hosts.map(async (host) => (await cluster.swarmState(host)).NodeID))
        return ids.every((id) => ready.includes(id))
      },
      FORM_MS,
      cluster.socket(first),
    )
    return cluster
  }

  /** The manager with this index, from 0. */
  manager(index = 0): LabHost {
    const host = this.lab.managers[index]
    if (!host) throw new Error(`this lab has ${this.lab.managers.length} managers`)
    return host
  }

  socket(host: LabHost): string {
    return this.to === 'engine' ? host.paths.engineSocket : host.paths.swarmdSocket
  }

  async swarmState(host: LabHost): Promise<SwarmInfo['Swarm']> {
    return (await this.api<SwarmInfo>(host, 'GET', '/info')).Swarm
  }

  /** The host that leads now, as `asked` (any manager) sees it. */
  async leader(asked: LabHost = this.manager()): Promise<LabHost> {
    return waitFor(
      'the cluster has a leader',
      async () => {
        const nodes = await this.api<NodeObject[]>(asked, 'GET', '/nodes')
        const leader = nodes.find((node) => node.ManagerStatus?.Leader)
        return leader && this.lab.host(leader.Description.Hostname)
      },
      FORM_MS,
    )
  }

  /** The docker client against this host. @throws if it ends other than 0, with what it printed. */
  async docker(host: LabHost, ...args: string[]): Promise<string> {
    return succeed(`docker ${args.join(' ')}`, await this.tryDocker(host, args))
  }

  /** The docker client, whatever comes of it. */
  tryDocker(host: LabHost, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return host.docker(args, { ...options, to: this.to })
  }

  /** `swarmctl` against this host. @throws if it ends other than 0, with what it printed. */
  async swarmctl(host: LabHost, ...args: string[]): Promise<string> {
    return succeed(`swarmctl ${args.join(' ')}`, await host.swarmctl(args))
  }

  /** An API call, its answer parsed. @throws on a status of 400 or more, with the error text. */
  async api<T = unknown>(host: LabHost, method: string, path: string, body?: unknown): Promise<T> {
    const answer = await callApi(this.socket(host), { method, path, body })
    if (answer.status >= 400) {
      throw new Error(`${method} ${path} on ${host.name}: ${answer.status} ${answer.body.trim()}`)
    }
    try {
      return (answer.body === '' ? undefined : JSON.parse(answer.body)) as T
    } catch {
      return answer.body as T
    }
  }

  /** See `waitFor`; listens to the events of `host`, the first manager unless told. */
  waitFor<T>(
    description: string,
    fact: () => Promise<T | undefined | null | false | 0 | ''>,
    deadlineMs: number,
    host: LabHost = this.manager(),
  ): Promise<T> {
    return waitFor(description, fact, deadlineMs, this.socket(host))
  }

  /**
   * Removes every service (so every stack), secret, config and network whose name begins with `prefix`, and waits until
   * their containers are gone from all engines.
   */
  async reset(prefix: string, host: LabHost = this.manager()): Promise<void> {
    for (const [kind, name] of [
      ['services', (object: Named) => object.Spec?.Name],
      ['secrets', (object: Named) => object.Spec?.Name],
      ['configs', (object: Named) => object.Spec?.Name],
      ['networks', (object: Named) => object.Name],
    ] as const) {
      const remove = async () => {
        const all = await this.api<Named[]>(host, 'GET', `/${kind}`)
        const ours = all.filter((object) => name(object)?.startsWith(prefix))
        for (const object of ours) await this.api(host, 'DELETE', `/${kind}/${object.ID ?? object.Id}`)
        return ours.length === 0
      }
      // a secret, config or network is in use until the last task of its service is gone
      await this.waitFor(`the ${kind} of ${prefix} are removed`, remove, RESET_MS, host)
    }
    await this.waitFor(`no container of ${prefix} is left`, async () => !(await this.#hasContainers(prefix)), RESET_MS)
  }

  async #hasContainers(prefix: string): Promise<boolean> {
    const filters = encodeURIComponent(JSON.stringify({ name: [`^/${prefix}`] }))
    const lists = await Promise.all(
      this.lab.hosts.map((host) =>
        callApi(host.paths.engineSocket, { path: `/containers/json?all=1&filters=${filters}` }),
      ),
    )
    return lists.some((answer) => answer.status !== 200 || (JSON.parse(answer.body) as unknown[]).length > 0)
  }
}

function succeed(what: string, result: RunResult): string {
  if (result.code !== 0) throw new Error(`${what}: exit code ${result.code}: ${result.stderr}${result.stdout}`)
  return result.stdout
}
