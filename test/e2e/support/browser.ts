/**
 * A headless Chromium, driven by its DevTools protocol over a pipe (https://chromedevtools.github.io/devtools-protocol/):
 * no port, so it works out of any network namespace.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { Readable, Writable } from 'node:stream'
import { findProgram } from '../../../lab/preflight.ts'

const PROGRAMS = ['chromium', 'chromium-browser', 'google-chrome']
/** Bounds a call to a browser that hangs. */
const CALL_MS = 60_000
const POLL_MS = 50

interface Answer {
  readonly id?: number
  readonly method?: string
  readonly sessionId?: string
  readonly params?: Readonly<Record<string, unknown>>
  readonly result?: Readonly<Record<string, unknown>>
  readonly error?: { readonly message: string }
}

interface Waiting {
  readonly resolve: (result: Readonly<Record<string, unknown>>) => void
  readonly reject: (error: Error) => void
}

export class Browser {
  readonly #child: ChildProcess
  readonly #profile: string
  readonly #waiting = new Map<number, Waiting>()
  readonly #exited: Promise<void>
  #lastId = 0
  #stderr = ''
  #received = ''

  private constructor(child: ChildProcess, profile: string) {
    this.#child = child
    this.#profile = profile
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = `${this.#stderr}${chunk}`.slice(-4_000)
    })
    const answers = child.stdio[4] as Readable
    answers.setEncoding('utf8').on('data', (chunk: string) => this.#receive(chunk))
    ;(child.stdio[3] as Writable).on('error', () => {}) // its exit tells it
    this.#exited = new Promise((resolve) => {
      child.once('close', (code) => {
        const error = new Error(`the browser ended (${code}): ${this.#stderr}`)
        for (const { reject } of this.#waiting.values()) reject(error)
        this.#waiting.clear()
        resolve()
      })
    })
  }

  /** `before` begins its command line: `lab.clientArgv([])` has it run on a machine beside the hosts. */
  static async start(before: readonly string[] = []): Promise<Browser> {
    const found = PROGRAMS.map(findProgram).find((path) => path !== undefined)
    if (!found) throw new Error('no Chromium in PATH: "make deps" installs it on Debian')
    const profile = mkdtempSync(join(tmpdir(), 'swarmctl-browser-'))
    const flags = [
      '--headless=new',
      '--remote-debugging-pipe',
      `--user-data-dir=${profile}`,
      '--no-sandbox', // root has none
      '--disable-gpu',
      '--disable-dev-shm-usage',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-default-apps',
      '--disable-extensions',
      '--disable-sync',
      '--no-first-run',
      '--no-proxy-server',
      '--window-size=1000,760',
      'about:blank',
    ]
    const [program = '', ...args] = [...before, found, ...flags]
    const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'], detached: true })
    await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject))
    return new Browser(child, profile)
  }

  /** A new page with that address, once it has loaded. */
  async open(url: string): Promise<Page> {
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank' })
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true })
    const page = new Page(this, String(sessionId))
    await page.look({})
    await page.go(url)
    return page
  }

  /** One call of the protocol. @throws with the browser's own words. */
  call(
    method: string,
    params: Readonly<Record<string, unknown>> = {},
    sessionId?: string,
  ): Promise<Readonly<Record<string, unknown>>> {
    const id = ++this.#lastId
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id)
        reject(new Error(`the browser does not answer ${method}: ${this.#stderr}`))
      }, CALL_MS)
      this.#waiting.set(id, {
        resolve: (result) => {
          clearTimeout(timer)
          resolve(result)
        },
        reject: (error) => {
          clearTimeout(timer)
          reject(error)
        },
      })
      const message = JSON.stringify({ id, method, params, ...(sessionId && { sessionId }) })
      ;(this.#child.stdio[3] as Writable).write(`${message}\0`)
    })
  }

  async close(): Promise<void> {
    // the whole group: it has processes of its own
    if (this.#child.exitCode === null && this.#child.pid) process.kill(-this.#child.pid, 'SIGKILL')
    await this.#exited
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 })
  }

  #receive(chunk: string): void {
    const messages = `${this.#received}${chunk}`.split('\0')
    this.#received = messages.pop() ?? ''
    for (const text of messages) {
      const { id = 0, result, error } = JSON.parse(text) as Answer
      const waiting = this.#waiting.get(id)
      this.#waiting.delete(id)
      if (error) waiting?.reject(new Error(`the browser: ${error.message}`))
      else waiting?.resolve(result ?? {})
    }
  }
}

export class Page {
  readonly #browser: Browser
  readonly #sessionId: string

  constructor(browser: Browser, sessionId: string) {
    this.#browser = browser
    this.#sessionId = sessionId
  }

  /** @throws if the address does not answer. */
  async go(url: string): Promise<void> {
    const { errorText } = await this.#call('Page.navigate', { url })
    if (errorText) throw new Error(`${url}: ${errorText}`)
    await this.until(`${url} is loaded`, `location.href !== 'about:blank' && document.readyState === 'complete'`)
  }

  /** What a person reads there. */
  async text(selector = 'body'): Promise<string> {
    return String(await this.evaluate(`document.querySelector(${JSON.stringify(selector)})?.innerText ?? ''`))
  }

  /** Presses the left button of the mouse in its middle, as a person does: what covers it gets the click. */
  async click(selector: string): Promise<void> {
    const found = JSON.stringify(selector)
    const place = await this.evaluate(`(() => {
      const element = document.querySelector(${found})
      element?.scrollIntoView({ block: 'center' })
      const box = element?.getBoundingClientRect()
      return box && { x: box.x + box.width / 2, y: box.y + box.height / 2 }
    })()`)
    if (!place) throw new Error(`nothing on the page is ${selector}`)
    await this.#call('Page.bringToFront')
    for (const type of ['mousePressed', 'mouseReleased']) {
      await this.#call('Input.dispatchMouseEvent', { type, ...place, button: 'left', clickCount: 1 })
    }
  }

  /** The value of an expression, in the page. */
  async evaluate(expression: string): Promise<unknown> {
    const answer = await this.#call('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true })
    const { result, exceptionDetails } = answer as {
      result?: { value?: unknown }
      exceptionDetails?: { text: string; exception?: { description?: string } }
    }
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text)
    return result?.value
  }

  /** Waits until an expression in the page is true. A page on its way to the next one is a "not yet". */
  async until(what: string, expression: string, deadlineMs = CALL_MS): Promise<void> {
    const expires = performance.now() + deadlineMs
    for (;;) {
      if (await this.evaluate(expression).catch(() => false)) return
      if (performance.now() > expires) {
        throw new Error(`not within ${deadlineMs} ms: ${what}; the page reads: ${await this.text()}`)
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS))
    }
  }

  /** Writes what is to be seen into a PNG file. */
  async screenshot(file: string): Promise<void> {
    await this.#call('Page.bringToFront') // one that is behind another is not painted
    const { data } = await this.#call('Page.captureScreenshot', { format: 'png' })
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, Buffer.from(String(data), 'base64'))
  }

  /** As a person has set it: `dark`, a phone's width. Nothing moves slowly, so that a picture shows where things are. */
  async look(options: { readonly scheme?: 'light' | 'dark'; readonly width?: number }): Promise<void> {
    const features = [
      { name: 'prefers-color-scheme', value: options.scheme ?? 'light' },
      { name: 'prefers-reduced-motion', value: 'reduce' },
    ]
    await this.#call('Emulation.setEmulatedMedia', { features })
    const size = { width: options.width ?? 1000, height: 760, deviceScaleFactor: 1, mobile: false }
    await this.#call('Emulation.setDeviceMetricsOverride', size)
  }

  #call(method: string, params: Readonly<Record<string, unknown>> = {}) {
    return this.#browser.call(method, params, this.#sessionId)
  }
}
