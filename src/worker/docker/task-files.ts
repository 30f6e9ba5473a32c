// Secrets and configs as files that a container gets bound in, one directory a task on a memory-backed file system, so
// that no secret comes near a disk; the directory goes with the task.

import { execFile } from 'node:child_process'
import { chmod, chown, mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { ContainerSpec, Driver, FileTarget } from '../../api/spec.ts'
import { templateContext } from '../../api/task-template.ts'
import { errorMessage } from '../../lib/errors.ts'
import { expandTemplate } from '../../lib/go-template.ts'
import { type TaskOrder, taskFailed } from '../executor.ts'
import type { FileMount } from './container-body.ts'
import { inStep, payloadFunctions } from './expand-spec.ts'

/** statfs's type of tmpfs and ramfs. */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x01021994, 0x858458f6])

const run = promisify(execFile)

export class TaskFiles {
  readonly #root: string
  #ready: Promise<void> | undefined

  /** @param execRoot runtime state; the engine sees it at the same path */
  constructor(execRoot: string) {
    this.#root = join(execRoot, 'task-files')
  }

  /** Writes the files of a task anew. @throws {CodedError} TASK_FAILED for what the task's spec has wrong. */
  async write(order: TaskOrder, expanded: ContainerSpec): Promise<readonly FileMount[]> {
    const files = filesOf(order, expanded)
    if (files.length === 0) return []
    await this.#mounted()
    const directory = join(this.#root, order.task.id)
    await rm(directory, { recursive: true, force: true })
    await mkdir(directory, { mode: 0o700 })
    for (const [index, file] of files.entries()) {
      const path = join(directory, String(index))
      await writeFile(path, file.content, { mode: 0o600 })
      await chown(path, file.uid, file.gid)
      await chmod(path, file.mode)
    }
    return files.map(({ target }, index) => ({ source: join(directory, String(index)), target }))
  }

  /** One more file of a task, readable by all, written in place if it is there. @returns its path */
  async put(taskId: string, name: string, content: string): Promise<string> {
    await this.#mounted()
    const directory = join(this.#root, taskId)
    await mkdir(directory, { recursive: true, mode: 0o700 })
    const path = join(directory, name)
    await writeFile(path, content)
    await chmod(path, 0o644)
    return path
  }

  async remove(taskId: string): Promise<void> {
    await rm(join(this.#root, taskId), { recursive: true, force: true })
  }

  async sweep(exists: (taskId: string) => boolean): Promise<void> {
    for (const taskId of await readdir(this.#root).catch(() => [])) if (!exists(taskId)) await this.remove(taskId)
  }

  /** Gives the memory back to the machine: for leaving the cluster. No error if it was never taken. */
  async unmount(): Promise<void> {
    this.#ready = undefined
    await run('umount', [this.#root]).catch(() => {}) // not a mount point of its own, or not there at all
    await rm(this.#root, { recursive: true, force: true })
  }

  #mounted(): Promise<void> {
    this.#ready ??= this.#mount().catch((error: unknown) => {
      this.#ready = undefined
      throw taskFailed(`no memory-backed directory for secrets: ${errorMessage(error)}`, error)
    })
    return this.#ready
  }

  async #mount(): Promise<void> {
    await mkdir(this.#root, { recursive: true, mode: 0o700 })
    // execRoot may lie on tmpfs itself (/run does), or the mount be that of the process before this one.
    if (MEMORY_FILE_SYSTEMS.has((await statfs(this.#root)).type)) return
    await run('mount', ['-t', 'tmpfs', '-o', 'mode=0700,nosuid,nodev', 'swarmd', this.#root])
  }
}

interface TaskFile {
  readonly target: string
  readonly content: Uint8Array
  readonly uid: number
  readonly gid: number
  readonly mode: number
}

function filesOf(order: TaskOrder, spec: ContainerSpec): readonly TaskFile[] {
  const files: TaskFile[] = []
  for (const { File: file, SecretID: id = '', SecretName: name = '' } of spec.Secrets ?? []) {
    if (!file) throw taskFailed(`secret target type is not a file target`)
    const secret = order.secrets.get(id)
    if (!secret) throw taskFailed(`secret ${name} is not available to this task`)
    if (secret.spec.Driver) throw taskFailed(`secret ${name} comes from a driver: not supported on this node`)
    const content = payload(order, spec, secret.spec, `secret ${name}`)
    files.push({ ...ownership(file), content, target: targetOf(file, '/run/secrets') })
  }
  for (const { File: file, Runtime: runtime, ConfigID: id = '', ConfigName: name = '' } of spec.Configs ?? []) {
    if (runtime && !file) continue
    if (!file) throw taskFailed(`config target type is not a file target`)
    const config = order.configs.get(id)
    if (!config) throw taskFailed(`config ${name} is not available to this task`)
    const content = payload(order, spec, config.spec, `config ${name}`)
    files.push({ ...ownership(file), content, target: targetOf(file, '/') })
  }
  return files
}

function payload(
  order: TaskOrder,
  spec: ContainerSpec,
  from: { readonly Data?: string; readonly Templating?: Driver },
  what: string,
): Uint8Array {
  const content = Buffer.from(from.Data ?? '', 'base64')
  const driver = from.Templating?.Name ?? ''
  if (driver === '') return content
  if (driver !== 'golang') throw taskFailed(`${what}: unrecognized template type ${driver}`)
  return inStep(`failed to expand ${what}`, () =>
    Buffer.from(
      expandTemplate(content.toString(), templateContext(order.task, order.node), payloadFunctions(order, spec)),
    ),
  )
}

function targetOf(file: FileTarget, directory: string): string {
  const name = file.Name ?? ''
  return name.startsWith('/') ? name : join(directory, name)
}

function ownership(file: FileTarget): { readonly uid: number; readonly gid: number; readonly mode: number } {
  return { uid: idOf(file.UID, 'UID'), gid: idOf(file.GID, 'GID'), mode: (file.Mode ?? 0o444) & 0o777 }
}

function idOf(text: string | undefined, what: string): number {
  if (text === undefined || text === '') return 0
  if (!/^\d{1,10}$/.test(text)) throw taskFailed(`invalid ${what} of a file: ${text}`)
  return Number(text)
}
