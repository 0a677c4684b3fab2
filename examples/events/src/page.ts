import { Controller, Get, Header } from '@nestjs/common';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from './root';

@Controller()
export class PageController {
  private readonly html = readFileSync(join(packageRoot(), 'page.html'), 'utf8');

  /** One page to look at; it names its files by their hashes, so it must itself be asked for each time. */
  @Get()
  @Header('Content-Type', 'text/html; charset=utf-8')
  @Header('Cache-Control', 'no-cache')
  page(): string {
    return this.html;
  }
}
