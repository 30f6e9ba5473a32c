// The fabric's network namespace: there, alive, and still the same one when somebody removed its name.

import { type FileHandle, open, unlink, writeFile } from 'node:fs/promises'
import { errorCode } from '../../lib/errors.ts'
import { type Commands, succeed } from './commands.ts'

export class FabricNamespace {
  readonly #commands: Commands
  readonly #name: string
  /** Keeps the namespace (and every link in it) alive without its name. */
  #handle: FileHandle | undefined

  constructor(commands: Commands, name: string) {
    this.#commands = commands
    this.#name = name
  }

  /** True where it was not there, or had lost its name. */
  async ensure(): Promise<boolean> {
    if (await this.#alive()) {
      this.#handle ??= await open(this.#commands.fabricPath)
      return false
    }
    // A bind mount can vanish and leave a plain file.
    await unlink(this.#commands.fabricPath).catch((error: unknown) => {
      if (errorCode(error) !== 'ENOENT') throw error
    })
    if (this.#handle) {
      await writeFile(this.#commands.fabricPath, '')
      const source = `/proc/${process.pid}/fd/${this.#handle.fd}`
      const result = await this.#commands.host('mount', [
        '--no-canonicalize',
        '--bind',
        source,
        this.#commands.fabricPath,
      ])
      if (result.status === 0 && (await this.#alive())) return true
      await unlink(this.#commands.fabricPath)
      await this.close()
    }
    succeed(await this.#commands.host('ip', ['netns', 'add', this.#name]), 'cannot make the namespace')
    this.#handle = await open(this.#commands.fabricPath)
    return true
  }

  async close(): Promise<void> {
    await this.#handle?.close()
    this.#handle = undefined
  }

  async #alive(): Promise<boolean> {
    return (await this.#commands.fabric('ip', ['link', 'show', 'lo'])).status === 0
  }
}
