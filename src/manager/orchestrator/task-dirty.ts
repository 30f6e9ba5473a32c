// Whether a task is out of date: it was made from another spec than the service has now, in a way that matters.

import type { Node, Service, Task } from '../../api/objects.ts'
import type { TaskSpec } from '../../api/spec.ts'
import { nodeMeetsExpressions } from '../scheduler/constraint.ts'
import { specsEqual } from './spec-equality.ts'

/**
 * Not dirty is a task of the same version, one whose task spec and endpoint spec are the same, and one where only the
 * placement changed and its node still meets the constraints.
 */
export function isTaskDirty(service: Service, task: Task, node: Node | undefined): boolean {
  if (service.specVersion === task.specVersion) return false
  const wanted = service.spec.TaskTemplate ?? {}
  if (onlyPlacementDiffers(wanted, task.spec) && node) {
    if (nodeMeetsExpressions(node, wanted.Placement?.Constraints)) return false
  }
  return !specsEqual(wanted, task.spec) || !specsEqual(service.spec.EndpointSpec, task.endpoint?.spec)
}

function onlyPlacementDiffers(wanted: TaskSpec, actual: TaskSpec): boolean {
  if (specsEqual(wanted.Placement, actual.Placement)) return false
  const { Placement: _wanted, ...wantedRest } = wanted
  const { Placement: _actual, ...actualRest } = actual
  return specsEqual(wantedRest, actualRest)
}
