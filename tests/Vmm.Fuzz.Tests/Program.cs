using Microsoft.Testing.Platform.Builder;
using Vmm.Fuzz.Tests;

if (args is ["--fuzz", ..])
{
    return FuzzCommand.Run(args.AsSpan(1));
}

ITestApplicationBuilder builder = await TestApplication.CreateBuilderAsync(args);
builder.AddSelfRegisteredExtensions(args);
using ITestApplication application = await builder.BuildAsync();
return await application.RunAsync();
