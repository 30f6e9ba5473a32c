// GET /info as a node's description, the way Swarm shows a node.

import type { NodeDescription } from '../../api/spec.ts'

export interface EngineInfo {
  readonly Name: string
  readonly OSType: string
  readonly Architecture: string
  readonly NCPU: number
  readonly MemTotal: number
  readonly ServerVersion: string
  readonly Labels: readonly string[] | null
  readonly Plugins: Readonly<Record<string, readonly string[] | null>> | null
}

export function nodeDescription(info: EngineInfo): NodeDescription {
  const plugins = ['Volume', 'Network', 'Authorization', 'Log'].flatMap((type) =>
    [...(info.Plugins?.[type] ?? [])].sort(ascending).map((name) => ({ Type: type, Name: name })),
  )
  return {
    Hostname: info.Name,
    Platform: { Architecture: info.Architecture, OS: info.OSType },
    Resources: { NanoCPUs: info.NCPU * 1e9, MemoryBytes: info.MemTotal },
    Engine: {
      EngineVersion: info.ServerVersion,
      Labels: Object.fromEntries((info.Labels ?? []).map(splitLabel)),
      Plugins: plugins.sort((a, b) => ascending(a.Type, b.Type) || ascending(a.Name, b.Name)),
    },
  }
}

function splitLabel(label: string): readonly [string, string] {
  const at = label.indexOf('=')
  return at < 0 ? [label, ''] : [label.slice(0, at), label.slice(at + 1)]
}

function ascending(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
