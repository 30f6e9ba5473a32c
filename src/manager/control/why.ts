// `swarmctl why`: what the loops decided and what they wait for. It is read from the store alone, by the loops' own pure
// code, so that any manager can tell, also of what another leader did, and nothing is written for it but what a task keeps of
// its placement.

import type { WhyJson } from '../../api/why.ts'
import type { ClusterMap } from '../scheduler/cluster-map.ts'
import type { StoreView } from '../store/types.ts'
import type { WhyOptions } from './why-history.ts'
import { whyNode } from './why-node.ts'
import { awaitsNode } from './why-placement.ts'
import { whyService } from './why-service.ts'
import type { WhySubject } from './why-subject.ts'
import { whyTask } from './why-task.ts'

/** Whether `why` wants to ask every node: the map of a large cluster takes a while to make. */
export function needsMap(view: StoreView, subject: WhySubject): boolean {
  if (subject.kind === 'task') return awaitsNode(subject)
  return subject.kind === 'service' && view.tasksOfService(subject.id).some(awaitsNode)
}

/** @param map of all nodes, where `needsMap` asks for it */
export function why(view: StoreView, subject: WhySubject, map: ClusterMap | undefined, options: WhyOptions): WhyJson {
  switch (subject.kind) {
    case 'task':
      return whyTask(view, subject, map, options)
    case 'service':
      return whyService(view, subject, map, options)
    case 'node':
      return whyNode(view, subject, options)
  }
}
