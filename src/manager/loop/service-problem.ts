// How a loop tells the user what it can't do for a service.

import type { Service } from '../../api/objects.ts'
import { formatTime } from '../../lib/clock.ts'
import type { Transaction } from '../store/types.ts'
import type { Problem } from './controller.ts'

/** Shows on the service what is wrong with it, or takes away what `source` has shown. */
export function serviceProblem(
  service: Service | undefined,
  source: string,
  problem: Problem | undefined,
  nowMs: number,
): Transaction | undefined {
  if (!service) return undefined
  const shown = service.problem
  if (!problem && shown?.source !== source) return undefined
  if (problem && shown?.message === problem.message) return undefined
  const { problem: _shown, ...rest } = service
  const { code, message } = problem ?? { code: '', message: '' }
  const object = problem ? { ...rest, problem: { source, code, message, since: formatTime(nowMs) } } : rest
  return [{ kind: 'update', object, expectedVersion: service.meta.version }]
}
