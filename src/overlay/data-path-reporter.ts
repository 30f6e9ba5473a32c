// What this node tells of its data plane: the machine as it was when it was last looked at, and what does not work. Told again
// whenever one of them changes.

import type { DataPathProblem, DataPathReport } from '../api/data-plane.ts'
import type { Self } from './desired-state.ts'
import { hostRoutes, mtuOfAddress } from './host-facts.ts'
import { ReportBoard } from './report-board.ts'

export interface DataPathReporterOptions {
  readonly self: () => Self | undefined
  /** What others of this process have to say. */
  readonly parts: () => Pick<DataPathReport, 'port' | 'encryptionKeys' | 'encryptionProblem' | 'problems'>
}

const NO_SELF: DataPathProblem = { code: 'NOT_IN_CLUSTER', message: 'this node is in no cluster', subject: '' }

const UNKNOWN: DataPathReport = {
  port: 0,
  mtu: 0,
  encryptionKeys: [],
  encryptionProblem: '',
  routes: [],
  problems: [NO_SELF],
}

export class DataPathReporter {
  readonly board = new ReportBoard(UNKNOWN)
  readonly #options: DataPathReporterOptions
  #failure: DataPathProblem | undefined
  #saveFailure: DataPathProblem | undefined
  #refusals: readonly DataPathProblem[] = []
  #refreshing: Promise<void> | undefined
  #refreshAgain = false
  /** As the machine was when it was last looked at. */
  #machine: Pick<DataPathReport, 'routes' | 'mtu'> | undefined

  constructor(options: DataPathReporterOptions) {
    this.#options = options
  }

  /** Looks at the machine again, and tells what it is after the call. */
  refresh(): Promise<void> {
    this.#refreshAgain = true
    this.#refreshing ??= this.#refresh()
    return this.#refreshing
  }

  /** The way to the others carries packets of another size than was told: until they know, large ones are lost. */
  async mtuHasChanged(): Promise<boolean> {
    const self = this.#options.self()
    if (!self || !this.#machine) return false
    const mtu = await mtuOfAddress(self.address)
    return mtu > 0 && mtu !== this.#machine.mtu
  }

  /** The kernel does not take the state (undefined: it does again). */
  kernelFailed(message: string | undefined): void {
    if (message === this.#failure?.message) return
    this.#failure = message === undefined ? undefined : { code: 'DATA_PLANE_FAILED', message, subject: '' }
    this.tell()
  }

  /** The disk does not take it (undefined: it does again). The kernel has it: what is lost is only the start without swarmd. */
  saveFailed(reason: string | undefined): void {
    const message = `the data plane's state can't be saved: ${reason}`
    this.#saveFailure = reason === undefined ? undefined : { code: 'STATE_NOT_SAVED', message, subject: '' }
    if (reason !== undefined) this.tell()
  }

  /** Networks that the kernel refuses. */
  refused(networks: readonly { readonly networkId: string; readonly message: string }[]): void {
    const refusals = networks.map(
      ({ networkId, message }): DataPathProblem => ({ code: 'NETWORK_UNUSABLE', message, subject: networkId }),
    )
    if (JSON.stringify(refusals) === JSON.stringify(this.#refusals)) return
    this.#refusals = refusals
    this.tell()
  }

  /** What has changed in this process: the machine is not looked at for that. */
  tell(): void {
    if (!this.#machine) return // the first look is about to come
    const { problems, ...parts } = this.#options.parts()
    const all = [
      ...(this.#options.self() ? [] : [NO_SELF]),
      ...(this.#failure ? [this.#failure] : []),
      ...(this.#saveFailure ? [this.#saveFailure] : []),
      ...this.#refusals,
      ...problems,
    ]
    this.board.post({ ...parts, mtu: this.#machine.mtu, routes: this.#machine.routes, problems: all })
  }

  async #refresh(): Promise<void> {
    try {
      while (this.#refreshAgain) {
        this.#refreshAgain = false
        const self = this.#options.self()
        const [routes, mtu] = await Promise.all([hostRoutes(), self ? mtuOfAddress(self.address) : 0])
        this.#machine = { routes, mtu }
      }
    } finally {
      this.#refreshing = undefined
    }
    this.tell()
  }
}
