// Whether a task is out of date: it was made from another spec than the service has now, in a way that matters.

import { sameContainerOptions } from '../../api/container-labels.ts'
import type { Node, Service, Task } from '../../api/objects.ts'
import { sameHostAddresses } from '../../api/publish-addresses.ts'
import type { TaskSpec } from '../../api/spec.ts'
import { specsEqual } from '../../api/spec-equality.ts'
import { nodeMeetsExpressions } from '../scheduler/constraint.ts'

/** How the spec of a version differs from the service's present one. */
type Difference = 'none' | 'placement' | 'other'

/**
 * Judges the tasks of one service in one look. All tasks of a version were made from the same spec, so that each version is
 * compared once, however many tasks there are.
 */
export class DirtyTasks {
  readonly #service: Service
  readonly #differences = new Map<number, Difference>()

  constructor(service: Service) {
    this.#service = service
  }

  /**
   * Not dirty is a task of the same version, one whose task spec, endpoint spec, options of its container and addresses of
   * host-mode ports are the same, and one where only the placement changed and its node still meets the constraints.
   */
  has(task: Task, node: Node | undefined): boolean {
    if (this.#service.specVersion === task.specVersion) return false
    let difference = this.#differences.get(task.specVersion)
    if (difference === undefined) {
      difference = differenceOf(this.#service, task)
      this.#differences.set(task.specVersion, difference)
    }
    if (difference !== 'placement') return difference === 'other'
    return !node || !nodeMeetsExpressions(node, this.#service.spec.TaskTemplate?.Placement?.Constraints)
  }
}

function differenceOf({ spec }: Service, task: Task): Difference {
  if (!sameContainerOptions(spec.Labels, task.serviceLabels)) return 'other'
  if (!sameHostAddresses(spec.EndpointSpec?.Ports, spec.Labels, task.serviceLabels)) return 'other'
  const wanted = spec.TaskTemplate ?? {}
  if (specsEqual(wanted, task.spec)) return specsEqual(spec.EndpointSpec, task.endpoint?.spec) ? 'none' : 'other'
  return specsEqual(withoutPlacement(wanted), withoutPlacement(task.spec)) ? 'placement' : 'other'
}

function withoutPlacement({ Placement: _placement, ...rest }: TaskSpec): TaskSpec {
  return rest
}
