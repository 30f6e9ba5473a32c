// A node that is short of disk gets no new tasks; those that it has stay.

import { pressureText } from '../../api/disk-pressure.ts'
import type { Node } from '../../api/objects.ts'

const WHAT = 'disk pressure'

function pressureOf(node: Node): string {
  return (node.description.DiskPressure ?? []).map((each) => pressureText(each).slice(`${WHAT}: `.length)).join(', ')
}

export const diskPressureFilter = {
  check: ({ node }: { readonly node: Node }) => !node.description.DiskPressure?.length,
  explain: (nodes: number) => (nodes === 1 ? `${WHAT} on 1 node` : `${WHAT} on ${nodes} nodes`),
  what: WHAT,
  detail: ({ node }: { readonly node: Node }) => pressureOf(node),
  dependsOnTasks: false,
} as const
