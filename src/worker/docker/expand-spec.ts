// Templates of a service's spec: what they may name, and where they stand (env, hostname, mounts, and the payloads of
// secrets and configs that ask for it).

import type { ContainerSpec, MountSpec } from '../../api/spec.ts'
import { templateContext } from '../../api/task-template.ts'
import { errorMessage } from '../../lib/errors.ts'
import { expandTemplate, type TemplateFunction, type TemplateValue } from '../../lib/go-template.ts'
import { type TaskOrder, taskFailed } from '../executor.ts'

/** @throws {CodedError} TASK_FAILED, in Swarm's words, for a template that cannot be expanded. */
export function expandContainerSpec(order: TaskOrder, spec: ContainerSpec): ContainerSpec {
  const context = templateContext(order.task, order.node)
  const expand = (text: string) => expandTemplate(text, context)
  return {
    ...spec,
    ...(spec.Env && {
      Env: inStep('expanding env failed', () =>
        (spec.Env ?? []).map((entry) => {
          const at = entry.indexOf('=')
          return at < 0 ? entry : `${entry.slice(0, at + 1)}${expand(entry.slice(at + 1))}`
        }),
      ),
    }),
    ...(spec.Mounts && {
      Mounts: inStep('expanding mounts failed', () => (spec.Mounts ?? []).map((mount) => expandMount(mount, expand))),
    }),
    ...(spec.Hostname && { Hostname: inStep('expanding hostname failed', () => expand(spec.Hostname ?? '')) }),
  }
}

function expandMount(mount: MountSpec, expand: (text: string) => string): MountSpec {
  const expandAll = (values: Readonly<Record<string, string>>) =>
    Object.fromEntries(Object.entries(values).map(([key, value]) => [key, expand(value)]))
  const volume = mount.VolumeOptions
  return {
    ...mount,
    ...(mount.Source && { Source: expand(mount.Source) }),
    ...(mount.Target && { Target: expand(mount.Target) }),
    ...(volume && {
      VolumeOptions: {
        ...volume,
        ...(volume.Labels && { Labels: expandAll(volume.Labels) }),
        ...(volume.DriverConfig?.Options && {
          DriverConfig: { ...volume.DriverConfig, Options: expandAll(volume.DriverConfig.Options) },
        }),
      },
    }),
  }
}

/** Functions of a payload's template: `secret`, `config` by the target's name, `env` of the (expanded) environment. */
export function payloadFunctions(order: TaskOrder, expanded: ContainerSpec): Record<string, TemplateFunction> {
  const payload = (data: string | undefined) => Buffer.from(data ?? '', 'base64').toString()
  const found = (value: string | undefined, what: string, name: TemplateValue | undefined) => {
    if (value === undefined) throw new Error(`${what} target not found: ${String(name)}`)
    return value
  }
  return {
    secret: (name) => {
      const reference = expanded.Secrets?.find(({ File }) => File?.Name === name)
      const secret = order.secrets.get(reference?.SecretID ?? '')
      return found(secret && payload(secret.spec.Data), 'secret', name)
    },
    config: (name) => {
      const reference = expanded.Configs?.find(({ File }) => File?.Name === name)
      const config = order.configs.get(reference?.ConfigID ?? '')
      return found(config && payload(config.spec.Data), 'config', name)
    },
    env: (name) =>
      expanded.Env?.find((entry) => entry.startsWith(`${String(name)}=`))?.slice(`${String(name)}=`.length) ?? '',
  }
}

/** @throws {CodedError} TASK_FAILED with `what` before the reason. */
export function inStep<T>(what: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw taskFailed(`${what}: ${errorMessage(error)}`, error)
  }
}
