// Every command of swarmctl. Names and summaries stand here, so that `swarmctl --help` loads nothing; the commands
// themselves are imported when they are asked for. A new group is one entry.

import type { Command } from './command.ts'

export interface GroupEntry {
  readonly name: string
  readonly summary: string
  /** Under which heading `swarmctl --help` lists it. */
  readonly section: 'Swarm Commands' | 'Management Commands'
  load(): Promise<readonly Command[]>
}

export interface TopEntry {
  readonly name: string
  readonly summary: string
  load(): Promise<Command>
}

export const groups: readonly GroupEntry[] = [
  {
    name: 'config',
    summary: 'Manage Swarm configs',
    section: 'Swarm Commands',
    load: async () => (await import('./config.ts')).configCommands,
  },
  {
    name: 'image',
    summary: 'Bring images to the nodes',
    section: 'Management Commands',
    load: async () => (await import('./image.ts')).imageCommands,
  },
  {
    name: 'network',
    summary: 'Manage networks',
    section: 'Management Commands',
    load: async () => (await import('./network.ts')).networkCommands,
  },
  {
    name: 'node',
    summary: 'Manage Swarm nodes',
    section: 'Swarm Commands',
    load: async () => (await import('./node.ts')).nodeCommands,
  },
  {
    name: 'secret',
    summary: 'Manage Swarm secrets',
    section: 'Swarm Commands',
    load: async () => (await import('./secret.ts')).secretCommands,
  },
  {
    name: 'service',
    summary: 'Manage Swarm services',
    section: 'Swarm Commands',
    load: async () => (await import('./service/commands.ts')).serviceCommands,
  },
  {
    name: 'stack',
    summary: 'Manage Swarm stacks',
    section: 'Swarm Commands',
    load: async () => (await import('./stack/commands.ts')).stackCommands,
  },
  {
    name: 'swarm',
    summary: 'Manage Swarm',
    section: 'Swarm Commands',
    load: async () => (await import('./swarm/commands.ts')).swarmCommands,
  },
]

export const topCommands: readonly TopEntry[] = [
  {
    name: 'completion',
    summary: 'Generate the autocompletion script for the specified shell',
    load: async () => (await import('./completion.ts')).completionCommand,
  },
  {
    name: 'exec',
    summary: 'Execute a command in a running task or container of any node',
    load: async () => (await import('./exec.ts')).execCommand,
  },
  {
    name: 'info',
    summary: 'Display system-wide information',
    load: async () => (await import('./info.ts')).infoCommand,
  },
  {
    name: 'logs',
    summary: 'Fetch the logs of a service or task',
    load: async () => (await import('./service/commands.ts')).logsCommand,
  },
  {
    name: 'ps',
    summary: 'List containers of all nodes',
    load: async () => (await import('./containers.ts')).psCommand,
  },
  {
    name: 'support-bundle',
    summary: 'Save the state of the node as an archive, without secrets',
    load: async () => (await import('./support-bundle.ts')).supportBundleCommand,
  },
  {
    name: 'version',
    summary: 'Show the version information',
    load: async () => (await import('./version.ts')).versionCommand,
  },
  {
    name: 'why',
    summary: 'Explain the state of a task, a service or a node',
    load: async () => (await import('./why.ts')).whyCommand,
  },
]
