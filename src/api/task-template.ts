// What templates of a service's spec may name (`{{.Task.Slot}}`): the same for the worker that makes the container and the manager that
// tells others the container's host name.

import type { TemplateValue } from '../lib/go-template.ts'
import { type Task, taskName } from './objects.ts'
import type { Platform } from './spec.ts'

export interface TemplateNode {
  readonly id: string
  readonly hostname: string
  readonly platform: Platform
}

export function templateContext(task: Task, node: TemplateNode): { readonly [key: string]: TemplateValue } {
  return {
    Service: { ID: task.serviceId, Name: task.serviceName, Labels: { ...task.serviceLabels } },
    Node: {
      ID: node.id,
      Hostname: node.hostname,
      Platform: { Architecture: node.platform.Architecture ?? '', OS: node.platform.OS ?? '' },
    },
    Task: { ID: task.id, Name: taskName(task), Slot: task.slot > 0 ? String(task.slot) : node.id },
  }
}
